"""What is wrong with the images of a data set, and which of them are one picture twice."""
