"""One part of a data set for each process of a run."""

from recipes.common.validation import are_whole


def check_shard(shard: tuple[int, int] | None, caller: str) -> tuple[int, int]:
    """Check `(index, count)`, this process among all of them; None stands for the only one.

    Args:
        shard: `(index, count)` with `0 <= index < count`, or None.
        caller: The public function, named in errors.

    Returns:
        `(index, count)`, two ints.

    Raises:
        ValueError: for anything else.
    """
    if shard is None:
        return 0, 1
    if not are_whole(shard) or len(shard) != 2 or not 0 <= shard[0] < shard[1]:
        raise ValueError(
            f"{caller} expects shard as (index, count) with 0 <= index < count. Received shard={shard!r}. "
            "On the JAX backend write shard=(jax.process_index(), jax.process_count())."
        )
    return int(shard[0]), int(shard[1])
