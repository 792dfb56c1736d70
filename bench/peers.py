"""The same work done by other tools, if this machine has these tools."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from timing import Case, time_once

_RECORD = "  - {type: A, ttl: 300, values: [192.0.2.1]}\n"
# Terraform starts one program for each run, and Ansible one task. Larger numbers take minutes.
_MANY_PROGRAMS, _MANY_TASKS = 1_000, 100
_RUN = '{"config":{"taskTimeout":600,"jobTimeout":7200}}'


def no_op_plans(root: Path, count: int) -> Iterator[Case]:
    """Yield a case for each installed peer, with its data written."""
    if terraform := shutil.which("terraform"):
        yield _terraform(terraform, _fresh(root, "terraform", count), count)
    if octodns := shutil.which("octodns-sync"):
        yield _octodns(octodns, _fresh(root, "octodns", count), count)
    if (ansible := shutil.which("ansible-playbook")) and count <= 1_000:
        yield _ansible(ansible, _fresh(root, "ansible", count), count)


def applies(folder: Path, count: int, parallelism: int, token: str) -> Iterator[Callable[[str], Case]]:
    """Yield for each installed peer a function from the endpoint to a case.

    A peer that would take minutes for `count` runs is left out. No peer keeps a record on disk of the calls before it
    sends them.
    """
    paths = [f"jobs/peer-{n:05}/run" for n in range(count)]
    curl = shutil.which("curl")
    if curl:
        yield partial(_curl, curl, _fresh(folder, "curl", count), paths, parallelism, token)
    if curl and count <= _MANY_PROGRAMS and (terraform := shutil.which("terraform")):
        yield partial(_terraform_curl, terraform, _fresh(folder, "terraform", count), paths, parallelism, token)
    if count <= _MANY_TASKS and (ansible := shutil.which("ansible-playbook")):
        yield partial(_ansible_uri, ansible, _fresh(folder, "ansible", count), paths, token)


def _fresh(root: Path, name: str, count: int) -> Path:
    folder = root / f"{name}-{count}"
    folder.mkdir(exist_ok=True)
    return folder


def _terraform(program: str, folder: Path, count: int) -> Case:
    """One block for each job, none refreshed: the quickest form of `terraform plan`."""
    blocks = (
        f'resource "terraform_data" "job_{n:07}" {{\n  input = {{\n    state       = "running"\n'
        "    taskTimeout = 600\n    jobTimeout  = 7200\n  }\n}\n"
        for n in range(count)
    )
    (folder / "main.tf").write_text("".join(blocks))
    (folder / "terraform.tfstate").write_text(json.dumps(_terraform_state(count)))
    words = ["plan", "-refresh=false", "-input=false", "-detailed-exitcode"]
    return _initialised("terraform plan -refresh=false", program, words, folder)


def _initialised(name: str, program: str, words: Sequence[str], folder: Path) -> Case:
    """Return a case that runs Terraform in a folder, after `terraform init`."""
    environment = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    time_once(Case("terraform init", [program, "init", "-input=false"], folder, environment))
    return Case(name, [program, *words], folder, environment)


def _terraform_state(count: int) -> dict[str, Any]:
    """Return a state that records every block of main.tf; `terraform apply` would need a minute to write it."""
    kind = ["object", {"state": "string", "taskTimeout": "number", "jobTimeout": "number"}]
    attributes_of_job = {"value": {"state": "running", "taskTimeout": 600, "jobTimeout": 7200}, "type": kind}
    resources = [
        {
            "mode": "managed",
            "type": "terraform_data",
            "name": f"job_{n:07}",
            "provider": 'provider["terraform.io/builtin/terraform"]',
            "instances": [
                {
                    "schema_version": 0,
                    "attributes": {
                        "id": f"job-{n:07}",
                        "input": attributes_of_job,
                        "output": attributes_of_job,
                        "triggers_replace": None,
                    },
                    "sensitive_attributes": [],
                }
            ],
        }
        for n in range(count)
    ]
    lineage = "3f1c2f6e-8a55-4c0e-9f0a-6b1f0d9f4b11"
    return {"version": 4, "serial": 1, "lineage": lineage, "outputs": {}, "resources": resources}


def _octodns(program: str, folder: Path, count: int) -> Case:
    """A zone of `count` records, synced from one YAML folder to another that already holds all of them."""
    records = "".join(f"job-{n:07}:\n{_RECORD}" for n in range(count))
    for side in ("source", "target"):
        (folder / side).mkdir(exist_ok=True)
        (folder / side / "example.com.yaml").write_text(f"---\n{records}")
    provider = "{class: octodns.provider.yaml.YamlProvider, default_ttl: 300, enforce_order: false, directory: %s}"
    (folder / "config.yaml").write_text(
        f"providers:\n  source: {provider % 'source'}\n  target: {provider % 'target'}\n"
        "zones:\n  example.com.:\n    sources: [source]\n    targets: [target]\n"
    )
    return Case("octodns-sync", [program, "--config-file", "config.yaml", "--quiet"], folder)


def _ansible(program: str, folder: Path, count: int) -> Case:
    """A task that inspects each job of a list, in check mode."""
    jobs = [{"name": f"transcode-{n:07}", "state": "running", "jobTimeout": 7200} for n in range(count)]
    (folder / "jobs.json").write_text(json.dumps({"jobs": jobs}))
    (folder / "play.yaml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  vars_files: [jobs.json]\n  tasks:\n"
        "    - ansible.builtin.assert: {that: [item.state == 'running']}\n"
        "      loop: '{{ jobs }}'\n      loop_control: {label: '{{ item.name }}'}\n"
    )
    words = ["-i", "localhost,", "-c", "local", "--check", "play.yaml"]
    return Case("ansible-playbook --check", [program, *words], folder, {"ANSIBLE_LOCALHOST_WARNING": "False"})


def _curl(program: str, folder: Path, paths: Sequence[str], parallelism: int, token: str, endpoint: str) -> Case:
    """One curl process for all calls."""
    headers = f'header = "Authorization: {token}"\nheader = "Content-Type: application/json"\n'
    each = "".join(f'url = "{endpoint}/{path}"\noutput = "/dev/null"\n' for path in paths)
    (folder / "calls.txt").write_text(f"{headers}data = {json.dumps(_RUN)}\nfail\nsilent\n{each}")
    words = ["--parallel", "--parallel-immediate", "--parallel-max", str(parallelism), "--config", "calls.txt"]
    return Case("curl --parallel", [program, *words], folder)


def _terraform_curl(
    program: str, folder: Path, paths: Sequence[str], parallelism: int, token: str, endpoint: str
) -> Case:
    """One resource for each job; each resource starts a program that makes the call."""
    headers = f"-H 'Authorization: {token}' -H 'Content-Type: application/json'"
    call = f"curl -sf -o /dev/null {headers} -d '{_RUN}' {endpoint}/${{each.key}}"
    (folder / "main.tf").write_text(
        f'resource "terraform_data" "run" {{\n  for_each = toset({json.dumps(paths)})\n'
        f'  provisioner "local-exec" {{\n    command = {json.dumps(call)}\n  }}\n}}\n'
    )
    words = ["apply", "-auto-approve", "-input=false", f"-parallelism={parallelism}"]
    return _initialised("terraform apply, a curl each", program, words, folder)


def _ansible_uri(program: str, folder: Path, paths: Sequence[str], token: str, endpoint: str) -> Case:
    """A loop of calls, one after another."""
    (folder / "calls.json").write_text(json.dumps({"urls": [f"{endpoint}/{path}" for path in paths]}))
    (folder / "play.yaml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  vars_files: [calls.json]\n  tasks:\n"
        f"    - ansible.builtin.uri: {{url: '{{{{ item }}}}', method: POST, headers: {{Authorization: {token}}},\n"
        f"        body_format: json, body: {_RUN}}}\n"
        "      loop: '{{ urls }}'\n"
    )
    words = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "play.yaml"]
    return Case("ansible-playbook, uri", [program, *words], folder, {"ANSIBLE_LOCALHOST_WARNING": "False"})
