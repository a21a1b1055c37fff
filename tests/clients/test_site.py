"""A site does what its settings allow, with its own images, and nothing else."""

import errno
import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from clients.audited import _sayable
from clients.work import WORK
from fedpolyp.errors import FedpolypError, Refusal, UsageError
from fedpolyp.simulation.records import from_record, to_content, to_record
from fedpolyp.sites import audit
from fedpolyp.training import shared_trainer
from tests.real_sites import RUN, deliver, make_sites, scoring, send, tiny, training
from tests.same_bits import equal


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sites(tmp_path_factory.mktemp("sites") / "deploy")


@pytest.fixture
def oslo(sites: Path) -> Path:
    (sites / "oslo" / "private" / "audit.jsonl").unlink(missing_ok=True)
    return sites / "oslo"


def log_of(site: Path) -> list[dict[str, Any]]:
    entries = list(audit.read(site / "private" / "audit.jsonl"))
    assert not any(entry.fault for entry in entries)
    return [entry.content for entry in entries]


def limited(site: Path, **limits: int) -> None:
    """Write other limits into site.toml."""
    lines = (site / "site.toml").read_text().splitlines()
    for name, value in limits.items():
        lines = [f"{name} = {value}" if line.startswith(f"{name} =") else line for line in lines]
    (site / "site.toml").write_text("\n".join(lines) + "\n")


def files_outside(site: Path) -> set[Path]:
    """All files of the tests' other places, among them the working directory."""
    places = (site.parent, Path.cwd(), Path.home(), Path(tempfile.gettempdir()), Path(os.environ["FEDPOLYP_STORES"]))
    files = (file for place in places for file in place.rglob("*"))
    return {file for file in files if site not in file.parents and file.suffix != ".pyc"}


def test_a_site_trains_on_its_own_images_and_keeps_all_it_makes_in_its_own_folder(
    oslo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "temporary", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    before = files_outside(oslo)
    reply = send(oslo, training(config=tiny(training__optimizer_state="keep")))
    assert reply.content.metric_records["metrics"]["images"] == 10  # of 12, one each for validation and test
    change = from_record(reply.content.array_records["model"])
    assert list(change) == list(shared_trainer(tiny()).start.model) and any(array.any() for array in change.values())
    assert list((oslo / "private" / "state" / RUN).glob("*.npz")) and list((oslo / "private" / "stores").iterdir())
    assert files_outside(oslo) == before


def test_a_site_sends_counts_of_its_images_and_no_names(oslo: Path) -> None:
    reply = send(oslo, scoring(score_set="test", distances=True))
    scores = from_record(reply.content.array_records["scores"])
    assert scores["counts"].shape == (1, 4) and scores["hd95"].shape == (1,)
    assert "patient" not in str(reply.content)


@pytest.mark.parametrize("field", ["run_folder", "store"])
def test_a_request_that_names_a_folder_is_refused(oslo: Path, field: str) -> None:
    named: dict[str, Any] = {field: "/etc"}
    with pytest.raises(Refusal, match="must not name a folder"):
        send(oslo, training(**named))


@pytest.mark.parametrize("setting", [{"data__source": "/etc"}, {"data__lists": "/etc"}])
def test_a_request_whose_config_names_a_folder_is_refused(oslo: Path, setting: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="must not name a folder"):
        send(oslo, training(config=tiny(**setting)))


@pytest.mark.parametrize(
    "setting",
    [{"hospitals__partition": "/etc/passwd"}, {"hospitals__scheme": "file", "hospitals__csv": "/etc/passwd"}],
)
def test_a_request_whose_config_names_a_partition_is_refused(oslo: Path, setting: dict[str, str]) -> None:
    with pytest.raises(Refusal, match="must not name a file: a site splits its own images"):
        send(oslo, training(config=tiny(**setting)))


@pytest.mark.parametrize("run", ["", "../../etc", "/etc", "0" * 33, "G" * 32])
def test_a_request_whose_run_could_be_a_path_is_refused(oslo: Path, run: str) -> None:
    with pytest.raises(Refusal, match="32 hexadecimal digits"):
        send(oslo, training(run=run))


@pytest.mark.parametrize("name", ["bergen", "", "../bergen"])
def test_a_request_for_another_hospital_is_refused(oslo: Path, name: str) -> None:
    with pytest.raises(Refusal, match="^this site is oslo; a request for .* is refused$"):
        send(oslo, training(name))


@pytest.mark.parametrize(
    ("limit", "setting"),
    [
        ("local_epochs", {"training__local_epochs": 11}),
        ("local_epochs", {"algorithm__name": "finetune", "algorithm__own_epochs": 11}),
        ("batch_size", {"training__batch_size": 65}),
        ("image_size", {"data__image_size": 528}),
        ("base_filters", {"model__base_filters": 65}),
        ("threads", {"training__threads": 17}),
    ],
)
def test_a_request_beyond_a_limit_is_refused(oslo: Path, limit: str, setting: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=f"^this site allows {limit} up to "):
        send(oslo, training(config=tiny(**setting)))


def test_a_site_whose_images_changed_in_the_middle_of_a_run_refuses_it_and_takes_another(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    send(site, scoring())
    one, other = sorted((tmp_path / "deploy" / "images-of" / "oslo" / "images").iterdir())[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(Refusal, match="^this site's images, or how they are split, have changed since the run began"):
        send(site, scoring())
    send(site, scoring(run="1" * 32))


@pytest.mark.parametrize(
    ("before", "after"),
    [('masks = "checked"', 'masks = "as-they-are"'), ("# lesion_values =", "lesion_values = [255] #")],
)
def test_a_site_that_takes_something_else_for_lesion_in_the_middle_of_a_run_refuses_it_and_takes_another(
    tmp_path: Path, before: str, after: str
) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    send(site, scoring())
    text = (site / "site.toml").read_text()
    assert before in text
    (site / "site.toml").write_text(text.replace(before, after))
    with pytest.raises(Refusal, match="^this site's masks and lesion_values in site.toml have changed since the run"):
        send(site, scoring())
    send(site, scoring(run="1" * 32))
    (site / "site.toml").write_text(text)
    send(site, scoring())


def test_a_run_that_no_request_has_touched_for_30_days_leaves_nothing_at_a_site(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    states, config = site / "private" / "state", tiny(training__optimizer_state="keep")
    for run in ("1", "2", "3"):
        send(site, training(run=run * 32, config=config))
    (states / "not-a-run").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (states / ("4" * 32)).symlink_to(outside)

    def age(folder: Path, days: float) -> None:
        for path in (*folder.iterdir(), folder):
            os.utime(path, (time.time() - days * 86400,) * 2)

    for folder in (*states.iterdir(), outside):
        age(folder, 31)
    send(site, scoring(run="2" * 32))  # it alone was touched, though its files are old
    folders = sorted(path.name for path in states.iterdir() if path.is_dir())
    assert folders == ["2" * 32, "4" * 32, "not-a-run"] and outside.exists()
    assert list((states / ("2" * 32)).glob("*.npz")), "the present run keeps all that it had"
    send(site, scoring(run="3" * 32))
    assert (states / ("2" * 32)).exists(), "a request has touched it"
    age(states / ("2" * 32), 29)
    send(site, scoring(run="3" * 32))
    assert (states / ("2" * 32)).exists()
    # It would train with fresh moments, and not say so.
    with pytest.raises(Refusal, match="^this site's state of round 1 of this run is gone: it is removed after 30 "):
        send(site, training(run="1" * 32, round=2, counted=1, config=config))
    send(site, training(run="1" * 32, round=2, counted=1))  # keeps none


def test_a_request_with_more_steps_than_allowed_is_refused(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    limited(site, steps=5)
    with pytest.raises(Refusal, match="^this site allows 5 steps in a round; the request asks for 6$"):
        send(site, training(config=tiny(training__local_epochs=2)))  # 10 images in batches of 4, twice
    with pytest.raises(Refusal, match="^this site allows 5 steps in a round; the request asks for 6$"):
        send(site, scoring(config=tiny(algorithm__name="finetune", algorithm__own_epochs=2)))


@pytest.mark.parametrize("kind", ["query", "train.other", "evaluate.files", "system"])
def test_a_message_of_another_kind_is_refused(oslo: Path, kind: str) -> None:
    with pytest.raises(Refusal, match="^a site accepts the messages train, train.unmask, evaluate; got "):
        send(oslo, training(), kind)
    assert [entry["event"] for entry in log_of(oslo)] == ["asked", "refused"]


@pytest.mark.parametrize("score_set", ["train", "../val"])
def test_scores_of_training_images_are_refused(oslo: Path, score_set: str) -> None:
    with pytest.raises(Refusal, match="must be one of"):
        send(oslo, scoring(score_set=score_set))


@pytest.mark.parametrize("text", ["", "{}x", '{"seed": "high"}', '{"shell": "rm"}'])
def test_a_request_whose_config_is_none_is_refused(oslo: Path, text: str) -> None:
    asked = training()
    with pytest.raises(Refusal, match="^the request's config is not valid$"):
        send(oslo, type(asked)(**{**asked.__dict__, "config": text}))


def test_a_message_without_a_request_is_refused_and_logged(oslo: Path) -> None:
    with pytest.raises(Refusal, match="holds no request"):
        deliver(oslo, RecordDict({"arrays": to_record({"w": np.zeros(2)})}))
    assert [entry["event"] for entry in log_of(oslo)] == ["asked", "refused"]


def test_the_log_holds_what_was_asked_and_what_was_sent(oslo: Path) -> None:
    config = tiny(training__optimizer_state="reset")
    reply = send(oslo, training(round=7, config=config))
    asked, sent = log_of(oslo)
    assert (asked["event"], sent["event"]) == ("asked", "sent")
    assert asked["round"] == sent["round"] == 7 and asked["run"] == RUN
    arrays = reply.content.array_records["model"]
    (packed,) = arrays.values()
    assert sent["bytes"] == len(packed.data)
    assert sent["sha256"] == hashlib.sha256(b"model/packed:" + packed.data).hexdigest() != asked["sha256"]
    again = send(oslo, training(round=7, config=config))
    assert log_of(oslo)[-1]["sha256"] == sent["sha256"]
    assert equal(from_record(again.content.array_records["model"]), from_record(arrays))
    send(oslo, training(round=8, config=config))
    assert log_of(oslo)[-1]["sha256"] != sent["sha256"] and log_of(oslo)[-2]["sha256"] == asked["sha256"]


def test_without_a_log_nothing_is_done(oslo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in WORK:
        monkeypatch.setitem(WORK, kind, lambda content, node_config: pytest.fail("the request was carried out"))
    (oslo / "private" / "audit.jsonl").mkdir()
    try:
        with pytest.raises(RuntimeError, match="^it cannot work with its disk: Is a directory$"):
            send(oslo, training())
    finally:
        (oslo / "private" / "audit.jsonl").rmdir()


@pytest.mark.parametrize("broken", ["no images", "no site.toml", "bad site.toml", "an image that is missing"])
def test_a_failure_tells_the_coordinator_no_name_and_no_path(tmp_path: Path, broken: str) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    file = site / "site.toml"
    if broken == "no images":
        file.write_text(file.read_text().replace("images-of", "nowhere"))
    elif broken == "no site.toml":
        file.unlink()
    elif broken == "bad site.toml":
        file.write_text("name = [")
    else:
        (site / "split.json").write_text(json.dumps({"train": ["patient-999"], "val": [], "test": []}))
        file.write_text(file.read_text().replace('file = "" ', 'file = "split.json" '))
    with pytest.raises(RuntimeError) as failed:
        send(site, training())
    said = str(failed.value)
    assert "its own log says why" in said
    assert str(tmp_path) not in said and "patient" not in said and failed.value.__cause__ is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/home/x"), "its disk: No space left on device$"),
        (OSError("5 requested and 3 written"), "its disk: its own log says why$"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), r"it failed \(ConnectionResetError\)"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/home/x"), r"it failed \(FileNotFoundError\)"),
        (UsageError("no pair in /home/x"), "its settings or images cannot be used"),
        (FedpolypError("/home/x"), r"it failed \(FedpolypError\)"),
    ],
)
def test_a_failure_is_put_down_to_the_disk_only_when_it_is_the_disks(error: Exception, said: str) -> None:
    caused = RuntimeError("what it led to")
    caused.__context__ = error
    assert re.search(said, _sayable(error)) and "/home/x" not in _sayable(error)
    assert ("its disk" in _sayable(caused)) == ("its disk" in said)


def test_a_site_splits_its_images_by_the_file_it_is_given(tmp_path: Path) -> None:
    site = make_sites(tmp_path / "deploy", sites=["oslo"]) / "oslo"
    names = [f"patient-{number:03d}" for number in range(12)]
    (site / "split.json").write_text(json.dumps({"train": names[:5], "val": names[5:8], "test": names[8:]}))
    (site / "site.toml").write_text((site / "site.toml").read_text().replace('file = "" ', 'file = "split.json" '))
    assert send(site, training()).content.metric_records["metrics"]["images"] == 5
    counts = from_record(send(site, scoring(score_set="test")).content.array_records["scores"])["counts"]
    assert counts.shape == (4, 4)


def test_a_site_cannot_be_told_by_a_message_that_it_is_none(oslo: Path) -> None:
    with pytest.raises(Refusal):
        deliver(oslo, to_content(training("oslo", run="", run_folder="/tmp", store="/tmp"), {"model": to_record({})}))
