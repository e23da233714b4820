"""Gradients, modes, and calls with the wrong arguments."""

from __future__ import annotations

from .explanation import Case, case, fixed

CASES: tuple[Case, ...] = (
    case(
        "gradient",
        r"does not require grad and does not have a grad_fn",
        fixed(
            "backward() was called on a result that has no gradients: it was computed under no_grad or inference_mode, "
            "from detached tensors, or with every parameter frozen",
            "compute the loss outside torch.no_grad(), without .detach(), .item() or .numpy() on the way",
        ),
    ),
    case(
        "gradient",
        r"Can't call numpy\(\) on Tensor that requires grad",
        fixed(
            "the result still records gradients, which inference does not need",
            "run the model under torch.inference_mode(), or take x.detach().numpy()",
        ),
    ),
    case(
        "gradient",
        r"backward through the graph a second time",
        fixed(
            "the graph was freed by the first backward()",
            "compute the loss again for each backward(), and detach what is carried over from one step to the next",
        ),
    ),
    case(
        "gradient",
        r"modified by an inplace operation|leaf Variable that requires grad is being used in an in-place",
        fixed(
            "a tensor that gradients need was written over in place",
            "use the form that makes a new tensor: x = x + y for x += y, x.relu() for x.relu_()",
        ),
    ),
    case(
        "gradient",
        r"[Ii]nference tensors? (?:cannot be saved for backward|outside InferenceMode)",
        fixed(
            "a tensor made under torch.inference_mode() is used where gradients are recorded",
            "make it outside, take x.clone(), or use torch.no_grad() in place of inference_mode",
        ),
    ),
    case(
        "call",
        r"Boolean value of Tensor with more than one value is ambiguous",
        fixed(
            "an if, and, or, not needs one truth value, and got a tensor with several",
            "say which: (x > 0).any() or .all(); to choose per element, torch.where; in place of and/or: & and |",
        ),
    ),
    case(
        "call",
        r"a Tensor with (?P<count>\d+) elements cannot be converted to Scalar",
        lambda m: (f"item() takes one value, and the tensor has {m['count']}", "select one, reduce, or use .tolist()"),
    ),
    case(
        "call",
        r"(?P<name>\w+)\.forward\(\) takes (?P<takes>\d+) positional arguments? but (?P<given>\d+) w",
        lambda m: (
            f"{m['name']}.forward takes {int(m['takes']) - 1} inputs and was given {int(m['given']) - 1}",
            "name as many inputs in the contract as forward has arguments",
        ),
    ),
    case(
        "call",
        r"(?P<name>\w+)\.forward\(\) missing \d+ required positional arguments?: (?P<names>.*)",
        lambda m: (
            f"{m['name']}.forward needs {m['names']}, which was not given",
            "name every argument of forward as an input of the contract, in its order",
        ),
    ),
    case(
        "call",
        r'Module \[(?P<name>\w+)\] is missing the required "forward" function',
        lambda m: (f"{m['name']} has no forward", "define forward(self, x) in the class, and mind its indentation"),
    ),
    case(
        "call",
        r"strides in the given numpy array|stride in the given numpy array is negative",
        fixed(
            "a NumPy array with a negative stride (a flip) cannot become a tensor", "copy it: np.ascontiguousarray(x)"
        ),
    ),
)
