"""One part of a data set for each process of a run."""

import numbers


def check_shard(shard, caller):
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
    pair = tuple(shard) if isinstance(shard, (tuple, list)) else ()
    whole = all(isinstance(one, numbers.Integral) and not isinstance(one, bool) for one in pair)
    if len(pair) != 2 or not whole or not 0 <= pair[0] < pair[1]:
        raise ValueError(
            f"{caller} expects shard as (index, count) with 0 <= index < count. Received shard={shard!r}. "
            "On the JAX backend write shard=(jax.process_index(), jax.process_count())."
        )
    return int(pair[0]), int(pair[1])
