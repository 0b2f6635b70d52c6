"""The probe on Keras' JAX backend."""
