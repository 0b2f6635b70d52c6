"""Operations of an augmentation pipeline, one a file."""
