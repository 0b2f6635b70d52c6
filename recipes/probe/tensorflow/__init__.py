"""The probe's adapter for Keras on TensorFlow: the instrumented train function, and the arithmetic inside its graph."""
