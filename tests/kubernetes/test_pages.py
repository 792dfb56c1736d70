"""The pages about Kubernetes: what they show is what is printed on a real API server."""

from pathlib import Path

import pytest

from kubernetes.cluster import Cluster, binaries
from pages import ON_A_CLUSTER, Around, wrong_outputs
from reconciler.engines.kubernetes.settings import OLDEST


def around(cluster: Cluster) -> Around:
    """Return what the reader of such a page has: kubectl, and the rights of an administrator of the cluster.

    The pages are for servers that reconciler takes as they are. An older one is allowed in what the reader types.
    """
    shown = "{engine: kubernetes, "
    typed = {shown: f"{shown}allowOldServer: true, "} if cluster.version < OLDEST else {}
    return Around({"KUBECONFIG": str(cluster.kubeconfig)}, str(binaries()), typed)


@pytest.mark.parametrize("page", ON_A_CLUSTER)
def test_what_a_page_about_kubernetes_shows_is_what_is_printed(page: str, tmp_path: Path, cluster: Cluster) -> None:
    wrong = wrong_outputs(page, ON_A_CLUSTER[page], tmp_path, around(cluster))
    advice = f"Read it, and if it is meant: make pages ARGS={page}"
    assert not wrong, "\n\n".join([*wrong, advice])
