"""ONNX graphs: written node by node, stored, checked."""
