"""Folders of images to read."""

import numpy as np
import pytest
from PIL import Image

random = np.random.default_rng(0)


@pytest.fixture
def tree(tmp_path):
    """Makes files below a folder: a small picture for each name, or the bytes given for it."""

    def make(names, contents=None):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if contents and name in contents:
                path.write_bytes(contents[name])
            elif path.suffix in (".txt", ".xml"):
                path.write_text("no image")
            else:
                Image.fromarray(random.integers(0, 256, (8, 8, 3), "uint8")).save(path)
        return tmp_path

    return make
