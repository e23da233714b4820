"""int8: the graphs of OpenVINO and ONNX Runtime, programs for AOTInductor, modules for TorchScript."""
