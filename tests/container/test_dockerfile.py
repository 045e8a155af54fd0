"""The users' own Dockerfile, built over a Debian base made here, and the README's demo in its image."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LABEL = "p2pml.test=dockerfile"
BASE, IMAGE = "p2pml-test-base:dockerfile", "p2pml-test:dockerfile"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def run(*command: str, timeout: float = 900) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def make_base(folder: Path) -> None:
    """Import a minimal Debian with Python as an image; this machine's certificates go in, for proxies."""
    (folder / "pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
    tar = folder / "base.tar"
    run(
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        f"--customize-hook=copy-in {CERTIFICATES} /etc/ssl/certs",
        f"--customize-hook=copy-in {folder / 'pip.conf'} /etc",
        "bookworm",
        str(tar),
    )
    run("docker", "import", "-c", f"ENV SSL_CERT_FILE={CERTIFICATES}", "-c", f"LABEL {LABEL}", str(tar), BASE)


@pytest.fixture
def image() -> Iterator[str]:
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("NOT TESTED: no container engine runs here, so the Dockerfile was not built")
    if shutil.which("mmdebstrap") is None:
        pytest.skip("NOT TESTED: mmdebstrap is not installed, so there is no base image without a registry")
    try:
        with tempfile.TemporaryDirectory() as folder:
            make_base(Path(folder))
        run(
            *("docker", "build", "--quiet", "--network", "host", "--label", LABEL, "--tag", IMAGE),
            *("--build-arg", f"BASE_IMAGE={BASE}", str(ROOT)),
        )
        yield IMAGE
    finally:
        subprocess.run(["docker", "rmi", "--force", IMAGE, BASE], capture_output=True, check=False)
        subprocess.run(
            ["docker", "image", "prune", "--force", "--filter", f"label={LABEL}"],
            capture_output=True,
            check=False,
        )


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_the_image_runs_the_demo_without_root(image: str) -> None:
    assert (
        run("docker", "run", "--rm", "--entrypoint", "id", "--label", LABEL, image, "-un").strip() == "p2pml"
    )
    offline = ("docker", "run", "--rm", "--init", "--network", "none", "--label", LABEL)
    books = json.loads(run(*offline, image, "demo", "--json"))["books"]
    assert books["last_accuracy"] >= 0.9
    assert books["adds_up"]
    assert books["explained"]
