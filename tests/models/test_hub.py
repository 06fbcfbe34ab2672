"""Through HTTP to a hub and back. The client reads its settings when it is imported: each step is a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.messages import check_message, refusal
from tests.models import fake_hub
from tests.small_models import small_brainomni

from emeg.errors import UserError
from emeg.models import BrainOmni
from emeg.models.hub import resolve

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")


@pytest.fixture
def hub():
    server = fake_hub.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def model():
    return small_brainomni()


def run(code, hub, tmp_path, *, token=fake_hub.TOKEN):
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
    }
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_there_and_back_over_http(hub, model, tmp_path):
    store = tmp_path / "store"
    (store / "models").mkdir(parents=True)
    (store / "store.json").write_text('{"schema": 1}')
    model.save_pretrained(store / "models" / "m1", provenance={"corpus": "c"})
    (store / "models" / "m1" / "README.md").write_text("# BrainOmni m1\n")
    arguments = ["push-to-hub", "--root", "store", "--model", "m1", "--repo", "lab/m1", "--unknown-licences-checked"]
    push = f"from emeg.cli import main\nmain({arguments})"
    done = run(push, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert hub.created[0]["name"] == "m1"
    assert set(hub.repos["lab/m1"]) == {"config.json", "model.safetensors", "README.md"}
    card = hub.repos["lab/m1"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: emeg\nlicense: other\n")
    assert "# BrainOmni m1" in card
    assert (store / "models" / "m1" / "README.md").read_text() == "# BrainOmni m1\n", "the product is as it was"

    pull = (
        "import hashlib, json\nfrom emeg.models import BrainOmni\n"
        "state = BrainOmni.from_pretrained('lab/m1').state_dict()\n"
        "print(json.dumps({n: hashlib.sha256(v.numpy().tobytes()).hexdigest() for n, v in state.items()}))\n"
    )
    done = run(pull, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    import hashlib

    held = {n: hashlib.sha256(v.numpy().tobytes()).hexdigest() for n, v in model.state_dict().items()}
    assert json.loads(done.stdout) == held

    # a weight that is missing there is an error, not a random number
    from safetensors.torch import load, save

    state = load(hub.repos["lab/m1"]["model.safetensors"])
    name = sorted(state)[0]
    hub.repos["lab/m1"]["model.safetensors"] = save({key: value for key, value in state.items() if key != name})
    done = run(pull, hub, tmp_path)
    assert done.returncode != 0
    assert f"missing: {name}" in done.stderr


def test_refusals_of_the_hub_are_reported(hub, tmp_path, model):
    model.save_pretrained(tmp_path / "m")
    push = "from emeg.models import BrainOmni\nBrainOmni.from_pretrained('./m').push_to_hub('lab/m')\n"
    done = run(push, hub, tmp_path, token="hf_wrong")
    check_message(done.stderr.splitlines()[-1], "UserError: lab/m:", "401", action="HF_TOKEN")
    done = run("from emeg.models import BrainOmni\nBrainOmni.from_pretrained('lab/none')\n", hub, tmp_path)
    check_message(done.stderr.splitlines()[-1], "UserError: lab/none:", "404", action="rights")
    hub.shutdown()
    hub.server_close()
    done = run(push, hub, tmp_path)
    check_message(done.stderr.splitlines()[-1], "TransientError: lab/m:", action="again")


def test_a_folder_is_no_repository(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained(Path("a") / "b")
    assert resolve("a/b") == Path("a/b")
    assert resolve("./a/c") == Path("a/c")
    with refusal(UserError, tmp_path / "none", "config.json", action="folder"):
        BrainOmni.from_pretrained(tmp_path / "none")
