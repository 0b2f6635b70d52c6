"""What every package uses: validation, files, optional libraries, and all that touches the insides of Keras."""
