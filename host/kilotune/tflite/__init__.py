"""TensorFlow Lite: reads, edits and makes .tflite files; the fixed-point arithmetic that they imply."""
