"""What is installed with modic: licences that its own allows, and no version with a known hole.

Offline, so known means known when this list was last looked at (November 2026, from memory); where the registry can be
asked, .ci/audit asks it.
"""

import os
import re
import subprocess
import tomllib
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
ALLOWED = """
    0BSD Apache-2.0 Apache-2.0-WITH-LLVM-exception BSD BSD-2-Clause BSD-3-Clause BSL-1.0 CC0-1.0 CNRI-Python ISC MIT
    MIT-0 MIT-CMU MPL-2.0 PSF-2.0 Zlib Unlicense
"""
WORDS = {  # how older packages write it
    r"apache( software)?( license)?,?( version)? ?(2(\.0)?)?|apache software license": "Apache-2.0",
    r"(the )?mit licen[sc]e.*|mit": "MIT",
    r"(new |modified |2-clause |3-clause )?bsd( license)?|bsd [23]-clause( license)?": "BSD",
    r"isc license( \(iscl\))?": "ISC",
    r"mozilla public license 2\.0 \(mpl 2\.0\)": "MPL-2.0",
    r"python software foundation license": "PSF-2.0",
    r"the unlicense( \(unlicense\))?": "Unlicense",
}
BY_HAND = {
    "cuda-toolkit": "metapackage of NVIDIA's redistributables, as torch from the registry needs them",
    "pykube-ng": "its LICENSE is the Apache License 2.0; one of its classifiers says otherwise",
    "text-unidecode": "Artistic License or GPL, at the user's choice: Artistic",
}
"""Read by a person; NVIDIA's own (`LicenseRef-NVIDIA-Proprietary`) are redistributables that torch depends on."""
FIXED_IN = {
    "certifi": ("2024.7.4", "CVE-2024-39689"), "cryptography": ("44.0.1", "CVE-2024-12797"),
    "h11": ("0.16.0", "CVE-2025-43859"), "idna": ("3.7", "CVE-2024-3651"), "jinja2": ("3.1.6", "CVE-2025-27516"),
    "mako": ("1.2.2", "CVE-2022-40023"), "monai": ("1.5.1", "CVE-2025-58757"), "orjson": ("3.9.15", "CVE-2024-27454"),
    "pillow": ("11.3.0", "CVE-2025-48379"), "pyarrow": ("14.0.1", "CVE-2023-47248"),
    "pydantic": ("2.4.0", "CVE-2024-3772"), "pygments": ("2.15.0", "CVE-2022-40896"),
    "python-multipart": ("0.0.18", "CVE-2024-53981"),
    "pyyaml": ("5.4", "CVE-2020-14343"), "requests": ("2.32.4", "CVE-2024-47081"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206"), "setuptools": ("78.1.1", "CVE-2025-47273"),
    "starlette": ("0.49.1", "CVE-2025-62727"), "torch": ("2.8.0", "CVE-2025-3730"),
    "tornado": ("6.5.0", "CVE-2025-47287"), "tqdm": ("4.66.3", "CVE-2024-34062"),
    "urllib3": ("2.6.0", "CVE-2025-66418"),
    "wheel": ("0.38.1", "CVE-2022-40898"), "zipp": ("3.19.1", "CVE-2024-5569"),
}  # fmt: skip
"""Package → the first version without the last hole known to us, and its name."""


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def shipped() -> dict[str, Distribution]:
    """Everything that `pip install modic[train]` brings, found from what is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    todo, found = [*project["dependencies"], *extras], {}
    while todo:
        requirement = Requirement(todo.pop())
        name = name_of(str(requirement))
        if name in found or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        todo += found[name].requires or []
    return found


def licences(one: Distribution) -> set[str]:
    """SPDX names of everything that binds its user; what is not known stays as it is written."""
    expression = one.metadata.get("License-Expression")
    if expression:
        expression = expression.replace(" WITH ", "-WITH-")
        return {part for part in re.split(r" AND | OR |[()]", expression) if part.strip()}
    kinds = [
        line.split(" :: ")[-1] for line in one.metadata.get_all("Classifier", []) if line.startswith("License :: ")
    ]
    stated = (one.metadata.get("License") or "").strip().split("\n")[0]
    return {spdx(kind) for kind in kinds if kind != "OSI Approved"} or {spdx(kind) for kind in stated.split(" OR ")}


def spdx(words: str) -> str:
    if words in ALLOWED.split():
        return words
    return next((name for pattern, name in WORDS.items() if re.fullmatch(pattern, words.lower())), words)


def allowed(name: str, one: Distribution) -> bool:
    nvidia = name.startswith("nvidia-") and all("NVIDIA" in text for text in licences(one))
    return name in BY_HAND or nvidia or licences(one) <= set(ALLOWED.split())


def test_no_licence_that_ours_does_not_allow() -> None:
    found = shipped()
    assert len(found) > 60 and {"torch", "prefect", "distributed", "duckdb"} <= found.keys()
    assert {name: licences(one) for name, one in found.items() if not allowed(name, one)} == {}


@pytest.mark.parametrize("licence", ["GPL-3.0-or-later", "AGPL-3.0", "GNU General Public License (GPL)", "UNKNOWN", ""])
def test_other_licences_would_be_found(licence: str) -> None:
    fake = SimpleNamespace(metadata=Message())
    fake.metadata["License"] = licence
    assert not allowed("fake", fake)  # type: ignore[arg-type]


def test_no_version_with_a_known_hole() -> None:
    found = shipped()
    old = {
        name: FIXED_IN[name]
        for name in FIXED_IN.keys() & found
        if Version(found[name].version) < Version(FIXED_IN[name][0])
    }
    assert old == {}


@pytest.mark.parametrize(
    "old, pinned, code, said",
    [
        ("CVE-1", "", 0, "packages that the registry does not know"),
        ("CVE-1", "CVE-2", 1, "the hole in what is pinned"),
        ("", "", 0, "does not answer for vulnerabilities; not asked"),
        ("", "CVE-2", 0, "does not answer for vulnerabilities; not asked"),
        ("CVE-1", "offline", 0, "stopped answering; not asked"),
    ],
)
def test_the_registry_is_asked_and_a_silent_one_fails_nothing(
    tmp_path: Path, old: str, pinned: str, code: int, said: str
) -> None:
    """With something in place of pip-audit that says what it is told to."""
    fake = tmp_path / "pip-audit"
    answer = 'echo "{\\"vulns\\": [{\\"id\\": \\"$hole\\"}]}"'
    fake.write_text(f"""#!/bin/sh
case "$*" in *known.txt) hole="{old}" ;; *) hole="{pinned}" ;; esac
case "$*" in *json*) ;; *) echo "the hole in what is pinned"; exit 1 ;; esac
case "$hole" in offline) exit 1 ;; "") echo "{{}}" ;; *) {answer}; exit 1 ;; esac
""")
    fake.chmod(0o755)
    environment = {**os.environ, "PIP_AUDIT": str(fake)}
    done = subprocess.run([ROOT / ".ci" / "audit"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr


def test_the_constraints_pin_what_is_shipped_and_name_no_place() -> None:
    lines = (ROOT / "deployments" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert not [line for line in lines if "://" in line or "@" in line]
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    assert shipped().keys() - pinned == set()
