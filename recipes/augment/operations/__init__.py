"""Operations of an augmentation pipeline, one per file."""
