"""What is said when a worker is gone, from messages that TensorFlow gave."""

import pytest
import tensorflow as tf

from recipes.common import processes
from recipes.distribution.lost import LostWorkerError, lost_workers_told

PLACE = 'Detected at node X defined at (most recent call last):\n  File "train.py", line 1, in <module>\n'
REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.3:1: Connection refused"
TARGET = (
    "\nAdditional GRPC error information from remote target /job:worker/replica:0/task:{} while calling /x:\n"
)
HERE = "{{function_node __wrapped__X_device_/job:worker/replica:0/task:0/device:CPU:0}} Collective ops is aborted by: "
SILENT = "The following tasks are unhealthy (stopped sending heartbeats):\n/job:worker/replica:0/task:1\nThe tasks have"


@pytest.mark.parametrize(
    ("message", "named", "reason"),
    [
        (PLACE + "Collective ops is aborted by: " + REFUSED + TARGET.format(2), "worker:2 at c:3", REFUSED),
        (HERE + SILENT + " crashed.", "worker:1 at b:2", "(stopped sending heartbeats): /job"),
        (
            PLACE + "Collective ops is aborted by: Socket closed\nThe error could be",
            "another worker (",
            "Socket closed",
        ),
    ],
)
def test_the_worker_that_is_gone_is_named_with_the_reason_alone(message, named, reason, monkeypatch):
    addresses = {"worker:0": "a:1", "worker:1": "b:2", "worker:2": "c:3"}
    monkeypatch.setattr(processes, "_workers", processes._Workers(0, 3, lambda: None, addresses))
    with pytest.raises(LostWorkerError) as caught, lost_workers_told():
        raise tf.errors.UnavailableError(None, None, message)
    words = str(caught.value)
    assert named in words and reason in words
    assert "train.py" not in words and "GRPC" not in words and "could be" not in words
