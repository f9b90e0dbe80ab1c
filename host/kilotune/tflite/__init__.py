"""Foreign bytes: .tflite files read, edited and made; the fixed-point arithmetic that they imply."""
