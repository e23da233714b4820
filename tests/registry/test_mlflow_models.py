"""Versions to and from a real MLflow server."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from mlflow_cases import STORED, TESTS, make_registry, make_ship, mlflow_server, run_there
from typer.testing import CliRunner

from shipworthy.cli.app import app
from shipworthy.errors import Conflict, RegistryError, TamperedPackage
from shipworthy.package import read_package
from shipworthy.registry import Registry
from shipworthy.registry.mlflow_models import pull, push

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture(scope="module")
def client(server: str) -> object:
    return mlflow.MlflowClient(tracking_uri=server, registry_uri=server)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Registry]:
    with_two = make_registry(tmp_path / "here")
    yield with_two
    with_two.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Registry]:
    other = make_registry(tmp_path / "there")
    yield other
    other.close()


def listed(client, run_id: str, path: str | None = None) -> list[str]:
    return [info.path for info in client.list_artifacts(run_id, path)]


@pytest.mark.full
def test_a_version_goes_to_mlflow_and_comes_back(server, client, here, there, tmp_path) -> None:
    with urllib.request.urlopen(f"{server}/version") as answer:
        assert answer.read().decode() == mlflow.__version__
    ship = make_ship(tmp_path)
    version = here.register(
        ship, aliases=["champion", "canary"], tags={"team": "harbour"}, why="smaller", git_commit="c0ffee"
    )
    pushed = push(here, "digits", to=server, experiment="exports")
    assert (pushed.uri, pushed.created, pushed.aliases) == ("models:/digits/1", True, ("canary", "champion"))

    run = client.get_run(pushed.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "exports"
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "digits:1"
    with read_package(ship) as package:
        assert run.data.params["package.digest"] == package.digest == version.digest
        assert run.data.params["contract.digest"] == package.manifest.contract_digest
    assert run.data.params["variant"] == "onnxruntime-fp32"
    assert run.data.params["target.objective"] == "throughput"
    assert run.data.metrics.items() >= version.metrics.items()
    assert run.data.metrics["metric.accuracy"] == 0.9
    assert run.data.metrics["openvino-fp32/metric.accuracy"] == 0.8
    curve = client.get_metric_history(pushed.run_id, "onnxruntime-fp32/p50_ms_by_batch")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (8, 16.0)]
    assert listed(client, pushed.run_id) == ["card.md", "model", "report.html"]
    assert listed(client, pushed.run_id, "model") == ["model/MLmodel", "model/digits.ship", "model/requirements.txt"]

    held = client.get_model_version("digits", "1")
    assert held.run_id == pushed.run_id
    assert held.description == "smaller"
    assert held.tags == {
        "team": "harbour",
        "shipworthy.digest": version.digest,
        "shipworthy.version": "digits:1",
        "shipworthy.contract": version.contract_digest,
        "shipworthy.git_commit": "c0ffee",
        "shipworthy.who": "ann@harbour",
        "shipworthy.why": "smaller",
    }
    assert client.get_model_version_by_alias("digits", "champion").version == "1"

    again = push(here, "digits:1", to=server)
    assert (again.number, again.run_id, again.created, again.aliases) == (1, pushed.run_id, False, ())
    assert len(client.search_model_versions("name='digits'")) == 1

    pulled = pull(there, "models:/digits@champion", source=server, aliases=True)
    assert pulled.created
    assert pulled.version.digest == version.digest
    assert pulled.version.git_commit == "c0ffee"
    assert pulled.version.aliases == ("canary", "champion")
    assert pulled.version.tags == {
        "mlflow.uri": "models:/digits/1",
        "mlflow.server": server,
        "mlflow.run_id": pushed.run_id,
        "mlflow.version": "1",
    }
    assert there.pull("digits").read_bytes() == ship.read_bytes()
    assert "champion of models:/digits/1" in there.history("digits")[0].why

    twice = pull(there, "models:/digits/1", source=server, aliases=True)
    assert (twice.created, twice.moved, twice.version) == (False, (), pulled.version)
    assert len(there.list_versions("digits")) == 1


LOAD = """
import json
import mlflow, numpy as np
from mlflow.exceptions import MlflowException
model = mlflow.pyfunc.load_model("models:/loaded@champion")
features = np.array({features}, "float32")
refused = []
for wrong in ({{"features": features[:, :2]}}, {{"features": features.astype("float64")}}):
    try:
        model.predict(wrong)
    except MlflowException as error:
        refused.append(str(error))
predictor = model.get_raw_model()
out = {{
    "logits": model.predict({{"features": features}})["logits"].tolist(),
    "inputs": model.metadata.get_input_schema().to_dict(),
    "outputs": model.metadata.get_output_schema().to_dict(),
    "refused": refused,
    "label": predictor.predict([features[0].tolist()])["predictions"][0]["label"],
}}
mlflow.pyfunc.load_model("models:/loaded/1", model_config={{"allow_code": True}}).predict({{"features": features}})
print(json.dumps(out))
"""


@pytest.mark.full
def test_mlflow_loads_what_was_pushed_and_shows_its_signature(server, here, tmp_path) -> None:
    here.register(make_ship(tmp_path, "loaded"), aliases=["champion"])
    push(here, "loaded", to=server)
    with read_package(STORED) as package:
        case = package.golden.cases[0]
        tolerance = package.manifest.variants[0].tolerance["logits"]
    done = run_there(LOAD.format(features=case.inputs["features"].tolist()), server)
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(out["logits"], case.outputs["logits"], atol=tolerance)
    assert out["inputs"] == [
        {"name": "features", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}
    ]
    assert out["outputs"] == [
        {"name": "logits", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}
    ]
    assert len(out["refused"]) == 2
    assert out["label"]
    # What the page of a model version asks for, to show its schema.
    page = f"{server}/model-versions/get-artifact?path=MLmodel&name=loaded&version=1"
    with urllib.request.urlopen(page) as answer:
        assert json.load(answer)["flavors"]["python_function"]["loader_module"] == "shipworthy.predict.pyfunc"


class Mine:
    """Opens a door when it is unpickled."""

    def __init__(self, door: Path) -> None:
        self.door = door

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.door,))


PYTORCH = """\
artifact_path: model
flavors:
  python_function:
    data: data
    loader_module: mlflow.pytorch
    pickle_module_name: mlflow.pytorch.pickle_module
  pytorch:
    model_data: data
    pytorch_version: 2.13.0
mlflow_version: 3.17.2
"""


@pytest.mark.full
def test_a_pickle_is_refused_and_never_opened(server, client, here, tmp_path) -> None:
    model = tmp_path / "plain"
    (model / "data").mkdir(parents=True)
    (model / "MLmodel").write_text(PYTORCH)
    (model / "data" / "model.pth").write_bytes(pickle.dumps(Mine(tmp_path / "open")))
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(model), "model")
    client.create_registered_model("plain")
    client.create_model_version("plain", f"{run.info.artifact_uri}/model", run.info.run_id)
    for uri in ("models:/plain/1", f"runs:/{run.info.run_id}/model", f"runs:/{run.info.run_id}"):
        with pytest.raises(RegistryError) as caught:
            pull(here, uri, source=server)
        assert caught.value.culprit == uri
        assert "holds no .ship package, but a model of MLflow's flavour pytorch" in caught.value.reason
        assert "model.pth is a pickle, which executes code when it is opened" in caught.value.reason
        assert "shipworthy build" in caught.value.remedy
    assert not (tmp_path / "open").exists()
    assert here.models() == []


SKLEARN = """
import mlflow
from sklearn.linear_model import LogisticRegression
mlflow.sklearn.log_model(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), name="model", registered_model_name="plain3")
"""


@pytest.mark.full
def test_a_model_that_mlflow_itself_logged_is_refused_by_its_flavour(server, here) -> None:
    done = run_there(SKLEARN, server)
    assert done.returncode == 0, done.stderr
    with pytest.raises(RegistryError, match="but a model of MLflow's flavour sklearn"):
        pull(here, "models:/plain3/1", source=server)


@pytest.mark.full
def test_what_is_not_there_is_named(server, here, tmp_path) -> None:
    here.register(make_ship(tmp_path, "known"), aliases=["champion"])
    push(here, "known", to=server)

    def refusal(uri: str) -> str:
        with pytest.raises(RegistryError) as caught:
            pull(here, uri, source=server)
        return str(caught.value)

    assert "has no model 'unknown'; its models are: " in refusal("models:/unknown/1")
    assert "has no model 'unknown'" in refusal("models:/unknown@champion")
    assert refusal("models:/known/7").endswith("its newest version is 1, its aliases are: champion")
    assert "has no such alias of 'known'" in refusal("models:/known@challenger")
    assert "has no such run" in refusal("runs:/0123456789abcdef/model")
    for wrong in ("known/1", "models:/known", "models:/known/Production", "digits@champion", "s3://bucket/model"):
        assert "names nothing on an MLflow server; write models:/digits/3" in refusal(wrong)
    assert [version.name for version in here.list_versions("known")] == ["known:1"]
    with pytest.raises(RegistryError, match="is no name of an MLflow model"):
        push(here, "known", to=server, model="a/b")


@pytest.mark.full
def test_an_alias_that_others_set_there_stays(server, client, here, tmp_path) -> None:
    client.create_registered_model("shared")
    client.create_model_version("shared", "s3://elsewhere/model")
    client.set_registered_model_alias("shared", "champion", "1")
    here.register(make_ship(tmp_path, "shared"), aliases=["champion", "candidate"])
    with pytest.raises(Conflict, match=r"models:/shared@champion: names version 1 on .*--no-aliases.*models:/shared/2"):
        push(here, "shared", to=server)
    assert dict(client.get_registered_model("shared").aliases) == {"champion": "1"}
    again = push(here, "shared", to=server, aliases=False)
    assert (again.number, again.created, again.aliases) == (2, False, ())


@pytest.mark.full
def test_an_alias_follows_the_registry_from_version_to_version(server, client, here, there, tmp_path) -> None:
    for why in ("first", "second"):
        here.register(make_ship(tmp_path, "moving", why), aliases=["champion"])
        push(here, "moving", to=server, model="moving-production")
    assert client.get_model_version_by_alias("moving-production", "champion").version == "2"
    pull(there, "models:/moving-production/2", source=server)
    pulled = pull(there, "models:/moving-production/1", source=server)
    assert (pulled.version.name, pulled.version.aliases, pulled.moved) == ("moving:2", (), ())
    (moved,) = pull(there, "models:/moving-production@champion", source=server, aliases=True).moved
    assert (moved.alias, moved.version, moved.previous) == ("champion", 1, None)
    here.rollback("moving")
    assert push(here, "moving", to=server, model="moving-production").aliases == ("champion",)
    (moved,) = pull(there, "models:/moving-production@champion", source=server, aliases=True).moved
    assert (moved.alias, moved.version, moved.previous) == ("champion", 2, 1)


@pytest.mark.full
def test_another_package_than_the_tag_says_is_refused(server, client, here, there, tmp_path) -> None:
    here.register(make_ship(tmp_path, "sealed"), aliases=["champion"])
    pushed = push(here, "sealed", to=server)
    client.log_artifact(pushed.run_id, str(make_ship(tmp_path, "sealed", "another")), "model")
    with pytest.raises(TamperedPackage, match=r"but its tag shipworthy\.digest names"):
        pull(there, "models:/sealed/1", source=server)
    broken = bytearray((tmp_path / "sealed.ship").read_bytes())
    broken[len(broken) // 2] ^= 1
    (tmp_path / "sealed.ship").write_bytes(broken)
    client.log_artifact(pushed.run_id, str(tmp_path / "sealed.ship"), "model")
    with pytest.raises(TamperedPackage):
        pull(there, f"runs:/{pushed.run_id}/model", source=server)
    assert there.models() == []


@pytest.mark.full
def test_a_package_is_found_among_a_run_s_files(server, client, there, tmp_path) -> None:
    run = client.create_run("0")
    client.log_artifact(run.info.run_id, str(make_ship(tmp_path, "first")), "a/b")
    pulled = pull(there, f"runs:/{run.info.run_id}", source=server)
    assert pulled.version.name == "first:1"
    assert pulled.version.tags["mlflow.run_id"] == run.info.run_id
    client.log_artifact(run.info.run_id, str(make_ship(tmp_path, "second")), "c")
    with pytest.raises(RegistryError, match=r"holds 2 packages: c/second\.ship, a/b/first\.ship; name one of them"):
        pull(there, f"runs:/{run.info.run_id}", source=server)
    assert pull(there, f"runs:/{run.info.run_id}/c/second.ship", source=server).version.name == "second:1"


@pytest.mark.full
def test_the_tags_of_a_version_fit_into_mlflow(server, client, here, tmp_path) -> None:
    tags = {"data/v+": "x", "größe": "5", "mlflow.source.name": "mine", "shipworthy.digest": "0"}
    version = here.register(make_ship(tmp_path, "tagged"), tags=tags, why="w" * 10_000)
    push(here, "tagged:1", to=server)
    held = client.get_model_version("tagged", "1")
    assert {key: value for key, value in held.tags.items() if not key.startswith("shipworthy.")} == {
        "data_v_": "x",
        "größe": "5",
    }
    assert held.tags["shipworthy.digest"] == version.digest
    assert held.tags["shipworthy.why"] == version.why


@pytest.mark.full
def test_a_push_that_fails_leaves_a_failed_run_and_no_version(server, client, here, tmp_path, monkeypatch) -> None:
    here.register(make_ship(tmp_path, "torn"), aliases=["champion"])

    def torn(*args: object, **options: object) -> None:
        raise mlflow.exceptions.MlflowException("the disk is full")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", torn)
    with pytest.raises(RegistryError, match="the disk is full"):
        push(here, "torn", to=server)
    assert client.search_model_versions("name='torn'") == []
    experiment = client.get_experiment_by_name("torn").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    monkeypatch.undo()
    assert push(here, "torn", to=server).number == 1


@pytest.mark.full
def test_a_deleted_experiment_is_refused_before_anything_is_made(server, client, here, tmp_path) -> None:
    here.register(make_ship(tmp_path, "lost"), aliases=["champion"])
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(RegistryError, match="the experiment 'gone': is deleted on"):
        push(here, "lost", to=server, experiment="gone")
    assert "lost" not in [model.name for model in client.search_registered_models()]


@pytest.mark.full
def test_the_documented_commands_do_what_the_page_says(server, client, tmp_path, monkeypatch) -> None:
    page = (TESTS.parent / "docs" / "mlflow.md").read_text(encoding="utf-8")
    for model in ("digits", "digits-production"):
        if any(known.name == model for known in client.search_registered_models()):
            client.delete_registered_model(model)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIPWORTHY_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with make_registry(tmp_path / "registry") as registry:
        registry.register(make_ship(tmp_path, why="one"), aliases=["champion"])
        registry.register(make_ship(tmp_path, why="two"))
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    steps = [part.split("\n", 1) for block in blocks for part in block.split("$ ")[1:]]
    ran = 0
    for command, shown in steps:
        if command.startswith("shipworthy "):
            result = CliRunner().invoke(app, shlex.split(command)[1:])
            assert (result.exit_code, result.stdout) == (0, shown), (command, result.exception)
            ran += 1
    assert ran == 6
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    done = run_there(code, server)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("{'logits': array([[")
    for name in ("digits", "digits-production"):
        tags = client.get_model_version(name, "1").tags
        assert {f"shipworthy.{part}" for part in ("digest", "version", "contract", "who")} <= set(tags)


@pytest.mark.full
def test_json_says_what_was_done(server, here, tmp_path) -> None:
    version = here.register(make_ship(tmp_path, "said"), aliases=["champion"])
    options = ["--registry", str(tmp_path / "here"), "--json"]
    pushed = json.loads(CliRunner().invoke(app, ["mlflow", "push", "said", "--to", server, *options]).stdout)
    assert pushed.pop("run_id")
    assert pushed.pop("skipped") == []
    assert pushed == {"name": "said:1", "uri": "models:/said/1", "created": True, "aliases": ["champion"]}
    result = CliRunner().invoke(app, ["mlflow", "pull", "models:/said/1", "--from", server, *options])
    pulled = json.loads(result.stdout)
    assert (pulled["name"], pulled["created"], pulled["aliases"]) == (version.name, False, [])
