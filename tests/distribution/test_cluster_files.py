"""The files for SLURM and Kubernetes on the page of several machines are what these programs take."""

import ast
import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

PAGE = (Path(__file__).parents[2] / "docs" / "rooms" / "distribution.md").read_text(encoding="utf-8")
VERSION = "1.31"  # of Kubernetes


def block(language, holding):
    """The block of the page in a language that holds these words."""
    return next(text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.S) if holding in text)


def test_each_object_of_the_kubernetes_file_fits_its_schema():
    found = list(yaml.safe_load_all(block("yaml", "Indexed")))
    assert [one["kind"] for one in found] == ["Service", "Job"]
    for one in found:
        kubernetes_validate.validate(one, VERSION, strict=True)
    found[1]["spec"]["completion"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="completion"):
        kubernetes_validate.validate(found[1], VERSION, strict=True)


def test_the_script_of_the_pods_names_the_pods_of_the_job():
    service, job = yaml.safe_load_all(block("yaml", "Indexed"))
    script = block("python", "JOB_COMPLETION_INDEX")
    ast.parse(script)
    name, count = job["metadata"]["name"], job["spec"]["completions"]
    port = job["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert job["spec"]["parallelism"] == count and job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    hosts = re.search(r'f"(.*?)" for number in range\((\d+)\)', script)
    assert hosts[1] == f"{name}-{{number}}.{service['metadata']['name']}:{port}" and int(hosts[2]) == count


def test_the_slurm_file_is_a_script_of_bash_with_options_of_sbatch():
    script = block("bash", "#SBATCH")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    options = re.findall(r"^#SBATCH (--[a-z-]+)(?:=(\S+))?$", script, re.M)
    assert len(options) == script.count("#SBATCH") and dict(options)["--ntasks-per-node"] == "1"
    # Of the manual page of sbatch.
    assert {name for name, _ in options} <= {
        "--nodes",
        "--ntasks-per-node",
        "--requeue",
        "--time",
        "--output",
    }
    assert script.startswith("#!/bin/bash\n") and "\nsrun python " in script
