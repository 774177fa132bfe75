"""A connector in a package of its own: installed beside crmsync, it is found, passes the kit and can be configured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugin"
README = ROOT / "connectors" / "README.md"
FILES = ("pyproject.toml", "crmsync_cardbox.py", "test_cardbox.py")
TENANT = """\
tenant: toko
region: "ID"
kirim:
  api_key: ${KIRIM_KEY}
  webhook_secrets: ["${KIRIM_SECRET}"]
  phone_number_ids: ["106540352242933"]
connections:
  cardbox:
    token: ${CARDBOX_TOKEN}
    contacts:
      fields: {name: name, email: email}
"""
ONLINE = '''\
import sys
from pathlib import Path
from rich.console import Console
from test_cardbox import CardboxFake
from crmsync.cli.check import run
from crmsync.sandbox.kirim import KirimEmulator

file = Path(sys.argv[2]) / "toko.yaml"
with KirimEmulator(numbers=(("106540352242933", "+62 811-222-222"),)) as kirim:
    fake = CardboxFake()
    targets = [url.removeprefix("http://") for url in (kirim.url, fake.url)]
    text = """{tenant}""".replace("name: name", sys.argv[1])
    text = text.replace("kirim:\\n", f"kirim:\\n  base_url: {{kirim.url}}/v1\\n")
    text = text.replace("    token:", f"    base_url: {{fake.url}}\\n    token:")
    file.write_text(text + f"daemon:\\n  insecure_targets: {{targets}}\\n")
    secrets = {{**{secrets}, "KIRIM_KEY": kirim.key}}
    code = run(file, secrets, Console(width=200), online=True)
    fake.close()
sys.exit(code)
'''
SECRETS = {
    "KIRIM_KEY": "kdv_test_0123456789abcdef01234567",
    "KIRIM_SECRET": "whsec_0123456789abcdef0123456789",
    "CARDBOX_TOKEN": "cardbox-token-4711",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sources, and beside it `site`, where the package was installed. Nothing is downloaded."""
    place = tmp_path_factory.mktemp("plugin")
    source = place / "source"
    source.mkdir()
    for name in FILES:
        shutil.copy(PLUGIN / name, source)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", "--quiet", *offline, "--target", place / "site", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return source


def run(installed: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Python where the package is installed."""
    path = os.pathsep.join([str(installed.parent / "site"), str(installed), str(ROOT)])
    environment = {**os.environ, **SECRETS, "PYTHONPATH": path, **more}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_passes_the_contract_kit(installed: Path) -> None:
    """From where it is installed, with warnings as errors; what it lacks is skipped by name."""
    done = run(installed, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-q", "-rs", "test_cardbox.py")

    assert done.returncode == 0, done.stdout[-4000:]
    for capability in ("webhooks", "prepare", "people", "segments", "activities"):
        assert f"cardbox does not declare {capability}" in done.stdout


def test_it_is_listed_with_its_settings(installed: Path) -> None:
    """Without a change in crmsync."""
    done = run(installed, "-m", "crmsync", "connectors", "--json")
    listed: dict[str, Any] = {each["name"]: each for each in json.loads(done.stdout)}

    assert listed["cardbox"]["can"] == ["changes", "create", "find", "native_upsert"]
    assert [setting["key"] for setting in listed["cardbox"]["settings"]] == ["token", "base_url", "timeout_seconds"]


def test_a_tenant_can_be_configured_with_it(installed: Path, tmp_path: Path) -> None:
    """Its mistakes are told like everybody's."""
    file = tmp_path / "toko.yaml"
    file.write_text(TENANT, encoding="utf-8")
    right = run(installed, "-m", "crmsync", "check", "--config", str(file))
    file.write_text(TENANT.replace("token:", "tokn:"), encoding="utf-8")
    wrong = run(installed, "-m", "crmsync", "check", "--config", str(file))

    assert right.returncode == 0, right.stdout + right.stderr
    assert "cardbox (cardbox)" in right.stdout
    assert wrong.returncode == 78
    assert "did you mean token?" in wrong.stdout


def test_its_account_is_asked(installed: Path, tmp_path: Path) -> None:
    """`crmsync check --online` compares the mapping with the account, over the wire."""
    script = tmp_path / "ask.py"
    script.write_text(ONLINE.format(tenant=TENANT, secrets=SECRETS), encoding="utf-8")
    right = run(installed, str(script), "name: name", str(tmp_path))
    wrong = run(installed, str(script), "name: nickname", str(tmp_path))

    assert right.returncode == 0, right.stdout + right.stderr
    assert "toko cardbox: the credential works; the account has 4 contact fields" in right.stdout
    assert wrong.returncode == 1
    assert "nickname" in wrong.stdout


def test_a_tenants_file_can_be_made_for_it(installed: Path, tmp_path: Path) -> None:
    """By questions that its settings are asked for, or without any."""
    file = tmp_path / "toko.yaml"
    options = ("--connector", "cardbox", "--tenant", "toko", "--set", "kirim.phone_number_ids=106540352242933")
    made = run(installed, "-m", "crmsync", "init", "--json", *options, "--out", str(file))
    told = json.loads(made.stdout)
    named = dict(zip(told["variables"], (SECRETS["KIRIM_KEY"], SECRETS["CARDBOX_TOKEN"]), strict=True))
    checked = run(installed, "-m", "crmsync", "check", "--config", str(file), **named)

    assert told["variables"] == ["TOKO_KIRIM_API_KEY", "TOKO_CARDBOX_TOKEN"]
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_is_short() -> None:
    """With its packaging and its proof."""
    lines = [line for name in FILES for line in (PLUGIN / name).read_text(encoding="utf-8").splitlines()]

    assert len(lines) < 150


def test_the_six_steps_show_its_code() -> None:
    """What the README shows is what was proved above."""
    told = README.read_text(encoding="utf-8")
    steps = told[told.index("## How to write one") : told.index("## Six policies")]
    sources = [_plain((PLUGIN / name).read_text(encoding="utf-8")) for name in FILES]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", steps, re.DOTALL)

    assert re.findall(r"^\*\*(\d)\. ", steps, re.MULTILINE) == list("123456")
    assert len(blocks) >= 6
    for block in blocks:
        assert any(_plain(block) in source for source in sources), block


def _plain(text: str) -> str:
    """Without indentation and empty lines, which code in a document need not keep."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())
