"""Which machines take part in a run, and which of them this process is: as given, from TF_CONFIG, or from SLURM."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import tensorflow as tf


def resolve_cluster(
    cluster: Sequence[str] | None = None, index: int | None = None, port: int = 8888
) -> tf.distribute.cluster_resolver.ClusterResolver:
    """The machines of a run: as given, else as TF_CONFIG says, else as SLURM says.

    Args:
        cluster: Addresses "host:port" of all workers, in the same order on each of them.
        index: Place of this process in `cluster`, from 0.
        port: With SLURM, the first port of each machine; its other processes take the next ones.

    Returns:
        TensorFlow's resolver. The worker with index 0 is the one that writes files.

    Raises:
        ValueError: for addresses without a port, the same address twice, an index outside the list, a TF_CONFIG of
            another form, and where nothing names the machines.
    """
    if cluster is not None:
        return _given(cluster, index)
    if index is not None:
        raise ValueError(
            f"MultiWorkerStrategy expects index= together with cluster=. Received index={index} alone. Give "
            "cluster=['host:port', ...] too, or give neither and set TF_CONFIG."
        )
    if os.environ.get("TF_CONFIG"):
        _check_tf_config(os.environ["TF_CONFIG"])
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if os.environ.get("SLURM_PROCID"):
        return tf.distribute.cluster_resolver.SlurmClusterResolver(port_base=port)
    raise ValueError(
        "MultiWorkerStrategy expects to be told which machines take part. Received no cluster=, and neither TF_CONFIG "
        "nor SLURM_PROCID is set. Write MultiWorkerStrategy(cluster=['host:port', ...], index=this_process), set "
        "TF_CONFIG, or start the script with srun."
    )


def _given(cluster, index):
    addresses = cluster.split(",") if isinstance(cluster, str) else list(cluster)
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(
                f"MultiWorkerStrategy expects addresses of the form 'host:port' in cluster=. Received {address!r}. "
                "Give every worker a free port from 1 to 65535, such as '10.0.0.1:9876'."
            )
    if len(set(addresses)) != len(addresses) or not addresses:
        raise ValueError(
            f"MultiWorkerStrategy expects one address for each worker. Received cluster={addresses}. Give two workers "
            "on one machine two ports."
        )
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(addresses):
        raise ValueError(
            f"MultiWorkerStrategy expects index= from 0 to {len(addresses) - 1}, the place of this process in "
            f"cluster=. Received index={index!r}. Give every process its own."
        )
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}), task_type="worker", task_id=index, rpc_layer="grpc"
    )


def _check_tf_config(text):
    try:
        config = json.loads(text)
        jobs, task = dict(config["cluster"]), config["task"]
        known = int(task["index"]) < len(jobs[task["type"]])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            'MultiWorkerStrategy expects TF_CONFIG of the form {"cluster": {"worker": ["host:port", ...]}, '
            f'"task": {{"type": "worker", "index": 0}}}}. Received {text!r} ({type(error).__name__}: {error}). '
            "Correct it, or unset it."
        ) from error
    others = set(jobs) - {"worker", "chief"}
    if not known or others:
        wrong = f"jobs {sorted(others)}" if others else f"task {task} outside the cluster"
        raise ValueError(
            f"MultiWorkerStrategy expects workers and at most one chief in TF_CONFIG. Received {wrong}. Leave "
            "parameter servers and evaluators out: they belong to other strategies."
        )
