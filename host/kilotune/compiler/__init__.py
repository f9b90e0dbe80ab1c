"""A .tflite into a model image: the graph, what to train, the memory plan, the schedule."""
