"""dtypes that do not go together, and tensors that are no indices."""

from __future__ import annotations

from re import Match

from .explanation import Case, case, fixed

_NAMES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "char": "int8",
    "unsignedchar": "uint8",
    "byte": "uint8",
    "bool": "bool",
    "complexfloat": "complex64",
    "complexdouble": "complex128",
}


def dtype_name(word: str) -> str:
    """torch's spoken dtypes (Double, c10::Half, unsigned char, torch.FloatTensor) as dtype names."""
    key = word.lower().replace("torch.", "").replace("c10::", "").replace("tensor", "").replace(" ", "")
    return _NAMES.get(key, key)


def _mixed(match: Match[str]) -> tuple[str, str]:
    first, second = dtype_name(match["first"]), dtype_name(match["second"])
    return f"two tensors of one operation have different dtypes: {first} and {second}", _cure(first, second)


def _input_and_weight(match: Match[str]) -> tuple[str, str]:
    given, weight = dtype_name(match["first"]), dtype_name(match["second"])
    return f"the input is {given}, the layer's weights are {weight}", _cure(given, weight)


def _cure(given: str, weight: str) -> str:
    if "float64" in (given, weight):
        return (
            "NumPy makes float64 by default: cast the array with .astype(np.float32), or the tensor with .float(); "
            "a model in float64 becomes float32 with model.float()"
        )
    floats = [name for name in (given, weight) if "float" in name]
    if len(floats) == 1:
        other = weight if floats[0] == given else given
        return f"cast the {other} tensor to {floats[0]} before the operation: x.to(torch.{floats[0]})"
    return f"cast one of them: x.to(torch.{weight})"


def _indices(match: Match[str]) -> tuple[str, str]:
    got = dtype_name(match["got"])
    return (
        f"an embedding or index needs whole numbers (int64 or int32), and got {got}",
        "feed token or row numbers, cast with .long() (NumPy: .astype(np.int64)); "
        f'in the contract: dtype = "int64", not "{got}"',
    )


def _not_implemented(match: Match[str]) -> tuple[str, str]:
    dtype = dtype_name(match["dtype"])
    return (
        f"PyTorch has no {match['op']} for {dtype} on this device",
        "cast to float32 before the operation with .float()",
    )


CASES: tuple[Case, ...] = (
    case("dtype", r"(?:must|to) have the same dtype, but got:? ?(?P<first>\w+) (?:and|!=) (?P<second>\w+)", _mixed),
    case(
        "dtype", r"[Ii]nput type \((?P<first>[^)]+)\) and (?:weight|bias) type \((?P<second>[^)]+)\)", _input_and_weight
    ),
    case(
        "dtype",
        r"input dtype \((?P<first>[\w.]+)\) does not match weight dtype \((?P<second>[\w.]+)\)",
        _input_and_weight,
    ),
    case("dtype", r"expected scalar type (?P<second>\w+) but found (?P<first>\w+)", _mixed),
    case("dtype", r"self \((?P<first>\w+)\) and source \((?P<second>\w+)\) must have the same scalar type", _mixed),
    case("dtype", r"to have the same dtype, but got query\.dtype: (?P<first>\w+) key\.dtype: (?P<second>\w+)", _mixed),
    case(
        "dtype",
        r"mixed dtype \(CPU\)",
        fixed(
            "a normalisation layer's input and weights have different dtypes",
            "cast the input to the weights' dtype, for float32 with .float() (NumPy: .astype(np.float32))",
        ),
    ),
    case("dtype", r"scalar types: Long, Int; but got (?P<got>[\w.]+)", _indices),
    case("dtype", r"(?P<got>\w+)? ?tensors used as indices must be", lambda m: _float_index()),
    case("dtype", r"expected target dtype to be Long or Byte, but got (?P<got>\w+)", lambda m: _target(m["got"])),
    case("dtype", r'"(?P<op>[\w]+)" not implemented for \'(?P<dtype>\w+)\'', _not_implemented),
    case("dtype", r"(?P<op>[\w.]+)(?:\(\))?: .*?[Dd]types? .*?Got:? (?P<dtype>\w+)", _not_implemented),
    case(
        "dtype",
        r"can't convert np\.ndarray of type (?P<got>[\w.]+)",
        lambda m: (
            f"a NumPy array of {m['got'].removeprefix('numpy.')} is no numbers that a tensor can hold",
            "make it numeric first: rows of equal length, no None, no text; then .astype(np.float32)",
        ),
    ),
    case(
        "call",
        r"must be Tensor, not (?P<got>[\w.]+)",
        lambda m: (f"the model was given a {m['got']}, not a tensor", "torch.from_numpy(x) or torch.as_tensor(x)"),
    ),
)


def _float_index() -> tuple[str, str]:
    return "a tensor of fractions is used as an index", "cast the index with .long()"


def _target(got: str) -> tuple[str, str]:
    return (
        f"cross-entropy takes class numbers of int64 as its target, and got {dtype_name(got)}",
        "cast the labels with .long() (NumPy: .astype(np.int64))",
    )
