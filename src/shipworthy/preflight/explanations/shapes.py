"""Shapes that do not go together, and indices beyond the end."""

from __future__ import annotations

from re import Match

from .explanation import Case, case, fixed


def _matmul(match: Match[str]) -> tuple[str, str]:
    rows, got, wanted, columns = match.groups()
    return (
        f"a layer takes {wanted} features and was given {got}: ({rows}x{got}) times ({wanted}x{columns})",
        f"make the last dimension of the input {wanted}, or build the layer for {got}, as nn.Linear({got}, {columns}); "
        "after convolutions, flatten with x.flatten(1) and mind the image size",
    )


def _channels(match: Match[str]) -> tuple[str, str]:
    shape = [int(size) for size in match["shape"].split(", ")]
    wanted, got = int(match["wanted"]), int(match["got"])
    cause = f"a convolution takes {wanted} channels and was given {got}: input {shape}"
    if shape[-1] == wanted and len(shape) in (3, 4):
        order = (2, 0, 1) if len(shape) == 3 else (0, 3, 1, 2)
        return cause, f"the channels are last: bring them to the front with x.permute{order}"
    if wanted == 3 and got == 1:
        return cause, "the image is grey: convert it to RGB, or repeat its channel with x.expand(-1, 3, -1, -1)"
    if wanted == 1 and got == 3:
        return cause, "the image is coloured: convert it to grey, or build the layer for 3 channels"
    return cause, f"feed {wanted} channels, or build the first layer for {got}"


def _rank(match: Match[str]) -> tuple[str, str]:
    wanted, got = match["wanted"], match["got"]
    size = [part for part in got.split(", ") if part.strip()] if "," in got else None
    given = f"{len(size)} dimensions, {[int(s) for s in size]}" if size else f"{got} dimensions"
    return (
        f"a layer takes an input of {wanted}, and was given {given}",
        "add what is missing: the batch with x.unsqueeze(0), the channel with x.unsqueeze(1)",
    )


def _view(match: Match[str]) -> tuple[str, str]:
    shape, count = match["shape"], match["count"]
    return (
        f"{count} values cannot be laid out as [{shape}]",
        "a batch or image size is written into the model: use x.flatten(1) or x.reshape(x.shape[0], -1)",
    )


def _broadcast(match: Match[str]) -> tuple[str, str]:
    return (
        f"sizes {match['first']} and {match['second']} meet in dimension {match['axis']}, and neither is 1",
        "make the two sizes equal, or one of them 1 with unsqueeze",
    )


def _embedding_range(match: Match[str]) -> tuple[str, str]:
    return (
        "an index is beyond the end of an embedding or of the tensor it selects from",
        "compare the largest index with num_embeddings (indices run from 0 to num_embeddings - 1); "
        "often the tokenizer has more tokens than the model was built for",
    )


def _range(match: Match[str]) -> tuple[str, str]:
    index, axis, size = match["index"], match["axis"], match["size"]
    return (
        f"index {index} is beyond the end of dimension {axis}, which has {size} (0 to {int(size) - 1})",
        f"keep indices below {size}",
    )


def _dimension(match: Match[str]) -> tuple[str, str]:
    low, high, got = match["low"], match["high"], match["got"]
    return (
        f"dimension {got} of a tensor that has dimensions {low} to {high}",
        "the tensor has fewer dimensions than the code takes for granted: keep the batch dimension (unsqueeze(0)), "
        "and name dimensions from the end, as dim=-1",
    )


def _norm(match: Match[str]) -> tuple[str, str]:
    return (
        f"a normalisation layer was built for {match['wanted']} channels and was given {match['got']}",
        "build it for the channels of the layer before it, and feed channels as the second dimension",
    )


CASES: tuple[Case, ...] = (
    case("shape", r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)", _matmul),
    case(
        "shape",
        r"expected input\[(?P<shape>[\d, ]+)\] to have (?P<wanted>\d+) channels, but got (?P<got>\d+) channels",
        _channels,
    ),
    case(
        "shape",
        r"[Ee]xpected (?P<wanted>\dD[^i]*?) ?input(?: to \w+, but)? \(?got (?:input of size: )?\[?(?P<got>[\d, ]+)",
        _rank,
    ),
    case("shape", r"shape '\[(?P<shape>[-\d, ]+)\]' is invalid for input of size (?P<count>\d+)", _view),
    case(
        "shape",
        r"size of tensor a \((?P<first>\d+)\) must match the size of tensor b \((?P<second>\d+)\)"
        r" at non-singleton dimension (?P<axis>\d+)",
        _broadcast,
    ),
    case(
        "shape",
        r"expanded size of the tensor \((?P<first>\d+)\) must match the existing size \((?P<second>\d+)\)"
        r" at non-singleton dimension (?P<axis>\d+)",
        _broadcast,
    ),
    case(
        "shape",
        r"Sizes of tensors must match except in dimension (?P<axis>\d+)\. "
        r"Expected size (?P<first>\d+) but got size (?P<second>\d+)",
        lambda m: (
            f"tensors joined along dimension {m['axis']} have other sizes {m['first']} and {m['second']}",
            "pad or cut them to one size before torch.cat",
        ),
    ),
    case(
        "shape",
        r"stack expects each tensor to be equal size, but got \[(?P<first>[\d, ]*)\].*?\[(?P<second>[\d, ]*)\]",
        lambda m: (
            f"tensors of different shapes are stacked: [{m['first']}] and [{m['second']}]",
            "pad or cut samples to one size; for a DataLoader, in its collate_fn",
        ),
    ),
    case(
        "shape",
        r"batch2 tensor to be: \[(?P<wanted>[\d, ]+)\] but got: \[(?P<got>[\d, ]+)\]",
        lambda m: (
            f"a batched matrix product needs [{m['wanted']}, n] on the right and got [{m['got']}, n]",
            "transpose one of the two with .transpose(1, 2), or compare their sizes",
        ),
    ),
    case("shape", r"running_mean should contain (?P<got>\d+) elements not (?P<wanted>\d+)", _norm),
    case(
        "shape",
        r"normalized_shape=\[(?P<wanted>[\d, ]+)\], .* input of size\[(?P<got>[\d, ]+)\]",
        lambda m: (
            f"a LayerNorm was built for the last dimensions [{m['wanted']}] and was given [{m['got']}]",
            f"make the input's last dimensions [{m['wanted']}], or build the layer for the input",
        ),
    ),
    case(
        "shape",
        r"equal to input_size\. Expected (?P<wanted>\d+), got (?P<got>\d+)",
        lambda m: (
            f"a recurrent layer takes {m['wanted']} features per step and was given {m['got']}",
            "mind the order [batch, step, feature], and batch_first=True",
        ),
    ),
    case(
        "shape",
        r"padded input size per channel: \((?P<got>[\dx ]+)\)\. Kernel size: \((?P<kernel>[\dx ]+)\)",
        lambda m: (
            f"the image has shrunk to {m['got']}, smaller than the kernel of {m['kernel']}",
            "feed larger images, or take out a stride or a pooling layer",
        ),
    ),
    case(
        "shape",
        r"Given input size: \((?P<got>[\dx]+)\)\. Calculated output size: \((?P<out>[\dx]+)\)",
        lambda m: (
            f"pooling would shrink {m['got']} to {m['out']}",
            "feed larger images, or take out a stride or a pooling layer",
        ),
    ),
    case(
        "shape",
        r"view size is not compatible",
        fixed(
            "view() needs values that lie in order, and a transpose or permute came before it",
            "use .reshape(...) in its place, or .contiguous() before it",
        ),
    ),
    case(
        "shape",
        r"input\.dim\(\) = (?P<got>\d+) is not equal to len\(dims\) = (?P<wanted>\d+)",
        lambda m: (
            f"permute() takes {m['wanted']} dimensions and the tensor has {m['got']}",
            "keep the batch and channel dimensions: x.unsqueeze(0)",
        ),
    ),
    case(
        "index", r"index (?P<index>-?\d+) is out of bounds for dimension (?P<axis>\d+) with size (?P<size>\d+)", _range
    ),
    case("index", r"index out of range in self", _embedding_range),
    case(
        "index",
        r"Target (?P<got>-?\d+) is out of bounds",
        lambda m: (
            f"label {m['got']} is not below the number of classes that the model scores",
            "number the labels from 0, or build the last layer for one more class",
        ),
    ),
    case(
        "index",
        r"Dimension out of range \(expected to be in range of "
        r"\[(?P<low>-?\d+), (?P<high>-?\d+)\], but got (?P<got>-?\d+)",
        _dimension,
    ),
    case(
        "mode",
        r"Expected more than 1 (?:value per channel|spatial element) when training, "
        r"got input size torch\.Size\((?P<got>.*?)\)",
        lambda m: (
            f"a batch norm in training mode needs more than one value per channel, and the input is {m['got']}",
            "for inference call model.eval() first; for training leave out a last batch of one: drop_last=True",
        ),
    ),
)
