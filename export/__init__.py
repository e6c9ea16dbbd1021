"""What leaves the method: ONNX graphs, batch inference, reports and the command line."""
