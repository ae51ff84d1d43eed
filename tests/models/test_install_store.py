from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_server import ArchiveServer, running, serve
from trained import INNER, LABELS, WEIGHTS, model_files, write_folder, write_zip

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.engines.installed import discover
from medsegagent.errors import AnswerNeededError, ModelError, NoModelError, UsageError
from medsegagent.models.download import Patience
from medsegagent.models.install import Installation, InstalledFolder, address, install
from medsegagent.models.inventory import remove, verify
from medsegagent.models.own_store import ModelHome, default_home, folder_name


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with running() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> ModelHome:
    return ModelHome(tmp_path / "store")


def archive_of(tmp_path: Path, **how: Any) -> bytes:
    return write_zip(tmp_path / "made.zip", model_files(**how)).read_bytes()


def toy(server: ArchiveServer, *models: dict[str, Any], **fields: Any) -> DatasetCard:
    """A card whose models are `id` and the fields of their one part's source."""
    entries = []
    for model in models or ({},):
        source = {"url": server.url("/toy.zip"), "archive": "toy.zip"} | model.get("source", {})
        part = {"dataset_folder": "Dataset900_Toy", "source": source}
        entries.append({"id": model.get("id", "toy/one"), "parts": [part]} | model.get("entry", {}))
    given = {"name": "Toy", "channel_names": {"0": "CT"}, "labels": LABELS, "models": entries}
    return DatasetCard.model_validate(given | fields)


def five_parts(server: ArchiveServer, tmp_path: Path) -> DatasetCard:
    """Five networks, two labels each, every one with values 1 and 2 of its own; all are served."""
    names = [f"organ_{number}" for number in range(1, 11)]
    parts = []
    for index in range(5):
        pair = names[2 * index : 2 * index + 2]
        dataset = f"Dataset29{index}_Part{index}"
        local = {name: value for value, name in enumerate(pair, 1)}
        server.routes[f"/{dataset}.zip"] = serve(
            archive_of(tmp_path, dataset=dataset, labels={"background": 0} | local)
        )
        source = {"url": server.url(f"/{dataset}.zip"), "archive": f"{dataset}.zip"}
        parts.append({"dataset_folder": dataset, "labels": local, "source": source})
    labels = {name: value for value, name in enumerate(names, 1)}
    entry = {"id": "toy/total", "parts": parts}
    return DatasetCard.model_validate(
        {"name": "Total", "channel_names": {"0": "CT"}, "labels": labels, "models": [entry]}
    )


def add(card: DatasetCard, home: ModelHome, **how: Any) -> tuple[InstalledFolder, ...]:
    quick = Patience(attempts=2, pause_s=0.01)
    return install(card, card.models[0], Installation(home, patience=quick, **how))


def leftovers(home: ModelHome) -> list[Path]:
    """Everything below the store that is neither a model nor what it keeps for itself."""
    kept = ("hashes.json", ".locks")
    roots = home.roots().values()
    return [
        path
        for path in home.folder.rglob("*")
        if path.is_file()
        and path.parts[len(home.folder.parts)] not in kept
        and not any(map(path.is_relative_to, roots))
    ]


def test_an_installed_model_is_found_by_discovery_with_its_labels(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    card = toy(server)
    (done,) = add(card, home)
    assert done.new
    assert done.folder == home.folder / "toy+one" / "Dataset900_Toy" / INNER
    found = discover(Library({"Toy": card}), [], home.roots())
    assert [model.id for model in found.models] == ["toy/one"]
    assert found.models[0].parts[0].labels == {"liver": (1,), "spleen": (2,)}
    assert found.problems == ()
    assert leftovers(home) == []


def test_a_second_install_fetches_nothing(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    card = toy(server)
    add(card, home)
    (again,) = add(card, home)
    assert not again.new
    assert len(server.requests) == 1


def test_a_request_that_needs_two_parts_of_five_gets_two(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    card = five_parts(server, tmp_path)
    done = install(card, card.models[0], Installation(home), labels=["organ_2", "organ_9"])
    assert [path for path, _ in server.requests] == ["/Dataset290_Part0.zip", "/Dataset294_Part4.zip"]
    assert [item.folder.parent.name for item in done] == ["Dataset290_Part0", "Dataset294_Part4"]
    (model,) = discover(Library({"Total": card}), [], home.roots()).models
    assert [part.labels for part in model.parts] == [
        {"organ_1": (1,), "organ_2": (2,)},
        {"organ_9": (1,), "organ_10": (2,)},
    ]
    install(card, card.models[0], Installation(home))
    assert len(server.requests) == 5


def test_a_source_fills_only_the_parts_that_it_names(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    card = five_parts(server, tmp_path)
    for index in (1, 3):
        write_folder(tmp_path / "results", model_files(f"Dataset29{index}_Part{index}"))
    done = add(card, home, archive=tmp_path / "results")
    assert [item.folder.parent.name for item in done] == ["Dataset291_Part1", "Dataset293_Part3"]
    with pytest.raises(ModelError, match="holds none of the parts"):
        add(card, home, archive=write_zip(tmp_path / "other.zip", model_files("Dataset900_Toy")))
    assert server.requests == []


def test_two_publishers_may_use_the_same_names(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    server.routes["/a/toy.zip"] = serve(archive_of(tmp_path, weights=b"a"))
    server.routes["/b/toy.zip"] = serve(archive_of(tmp_path, weights=b"b"))
    card = toy(
        server,
        {"id": "a/toy", "source": {"url": server.url("/a/toy.zip")}},
        {"id": "b/toy", "source": {"url": server.url("/b/toy.zip")}},
    )
    for entry in card.models:
        install(card, entry, Installation(home))
    found = discover(Library({"Toy": card}), [], home.roots())
    weights = [(model.parts[0].folder / "fold_0/checkpoint_final.pth").read_bytes() for model in found.models]
    assert weights == [b"a", b"b"]


def test_what_an_archive_was_at_first_it_must_be_ever_after(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    card = toy(server)
    add(card, home)
    remove(home, "toy/one")
    server.routes["/toy.zip"] = serve(archive_of(tmp_path, weights=b"other"), tag='"v2"')
    with pytest.raises(ModelError, match=r"when first installed.*hashes.json"):
        add(card, home)
    assert home.roots() == {}
    assert leftovers(home) == []


def test_an_archive_that_is_not_what_its_card_says_is_refused(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    with pytest.raises(ModelError, match="its card says 00"):
        add(toy(server, {"source": {"sha256": "00" * 32}}), home)
    assert not (home.folder / "hashes.json").exists()
    assert leftovers(home) == []


@pytest.mark.parametrize(
    "files",
    [
        {"cat.png": b"x"},
        model_files() | {"../../evil": b"x"},
        model_files() | {f"Dataset900_Toy/{INNER}/plans.json": b"no json"},
        model_files(labels={"background": 0, "liver": "one"}),
    ],
    ids=["no model", "zip slip", "broken plans", "broken labels"],
)
def test_a_bad_archive_leaves_nothing_behind(
    server: ArchiveServer, home: ModelHome, tmp_path: Path, files: dict[str, bytes]
) -> None:
    server.routes["/toy.zip"] = serve(write_zip(tmp_path / "bad.zip", files).read_bytes())
    with pytest.raises(ModelError):
        add(toy(server), home)
    assert home.roots() == {}
    assert leftovers(home) == []


@pytest.mark.parametrize("page", [b"<html>Please log in</html>", b"Please log in"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/zip"])
def test_the_login_page_of_a_network_is_not_remembered_as_the_archive(
    server: ArchiveServer, home: ModelHome, tmp_path: Path, page: bytes, kind: str
) -> None:
    server.routes["/toy.zip"] = lambda handler: handler.answer(200, page, Content_Type=kind)
    with pytest.raises((ModelError, NoModelError), match=r"web page|not a zip archive"):
        add(toy(server), home)
    assert leftovers(home) == []
    assert not (home.folder / "hashes.json").exists()
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    assert add(toy(server), home)[0].new
    assert len(json.loads((home.folder / "hashes.json").read_text())) == 1


def test_an_archive_that_cannot_be_used_is_not_remembered(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    bad = model_files() | {f"Dataset900_Toy/{INNER}/plans.json": b"no json"}
    server.routes["/toy.zip"] = serve(write_zip(tmp_path / "bad.zip", bad).read_bytes())
    with pytest.raises(ModelError):
        add(toy(server), home)
    server.routes["/toy.zip"] = serve(archive_of(tmp_path), tag='"v2"')
    assert add(toy(server), home)[0].new


def test_a_mirror_that_is_a_folder_of_pipes_is_a_clear_error(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    (tmp_path / "mirror" / "toy+one").mkdir(parents=True)
    os.mkfifo(tmp_path / "mirror" / "toy+one" / "toy.zip")
    with pytest.raises(ModelError, match="no regular file"):
        add(toy(server), home, mirror=str(tmp_path / "mirror"))


def test_a_missing_archive_says_what_to_do(server: ArchiveServer, home: ModelHome) -> None:
    with pytest.raises(NoModelError, match=r"404.*--from"):
        add(toy(server), home)


def test_a_local_archive_or_folder_needs_no_server(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    card = toy(server, {"id": "toy/zip"}, {"id": "toy/folder"})
    archive = write_zip(tmp_path / "any name.zip", model_files(dataset="", inner=""))
    folder = write_folder(tmp_path / "nnUNet_results", model_files())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for entry, source in zip(card.models, (archive, folder), strict=True):
        install(card, entry, Installation(home, archive=source))
    assert [verdict.faults for verdict in verify(home)] == [(), ()]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert server.requests == []


def test_a_mirror_serves_by_model_id_and_may_be_a_folder(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    data = archive_of(tmp_path)
    card = toy(server, {"id": "toy/one:fast"})
    server.routes["/mirror/toy+one@fast/toy.zip"] = serve(data)
    add(card, home, mirror=server.url("/mirror/"))
    remove(home, "toy/one:fast")
    write_zip(tmp_path / "share" / "toy+one@fast" / "toy.zip", model_files())
    add(card, home, mirror=str(tmp_path / "share"))
    assert (tmp_path / "share" / "toy+one@fast" / "toy.zip").exists()
    assert [path for path, _ in server.requests] == ["/mirror/toy+one@fast/toy.zip"]
    remove(home, "toy/one:fast")
    write_zip(tmp_path / "share" / "toy+one@fast" / "toy.zip", model_files(weights=b"planted"))
    with pytest.raises(ModelError, match="when first installed"):
        add(card, home, mirror=str(tmp_path / "share"))


def test_a_licence_bound_model_is_never_fetched_and_needs_its_acceptance(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    bound = {"url": server.url("/licence-server"), "archive": "", "licence": "by number", "licence_required": True}
    card = toy(server, {"source": bound})
    archive = write_zip(tmp_path / "m.zip", model_files())
    with pytest.raises(AnswerNeededError, match=r"holders of a licence \(by number\)"):
        add(card, home, archive=archive)
    with pytest.raises(NoModelError, match="against a licence"):
        add(card, home, licence_accepted=True)
    assert server.requests == []
    add(card, home, archive=archive, licence_accepted=True)
    assert list(home.roots()) == ["toy/one"]


def test_a_page_is_not_taken_for_an_archive(server: ArchiveServer) -> None:
    card = toy(server, {"source": {"url": "https://example.org/record/1", "archive": ""}})
    source = card.models[0].parts[0].source
    assert source is not None
    with pytest.raises(NoModelError, match="not by a direct address"):
        address(card.models[0], source)


def test_what_differs_from_the_card_is_told(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    labels = {"background": 0, "Liver": 2, "milt": 1, "helper": 3}
    files = model_files("Dataset900_Other", labels=labels, channels=("CT", "PET"), spacing=(1, 1, 3))
    entry = {"spacing_mm": [1.5, 1.5, 1.5]}
    card = toy(server, {"entry": entry}, labels=LABELS | {"kidney": 9})
    (done,) = add(card, home, archive=write_zip(tmp_path / "m.zip", files))
    assert done.differences == (
        f"its folder is called Dataset900_Other/{INNER}, the card says Dataset900_Toy/{INNER}",
        "it gives liver as 2, the card says 1",
        "it calls 2 Liver, the card spleen",
        "it has no value 9, which the card calls kidney",
        "it takes 2 channels (CT, PET), the card says 1",
        "its grid is 3 x 1 x 1 mm, the card says 1.5 x 1.5 x 1.5 mm",
    )
    assert json.loads((done.folder / "medsegagent.json").read_text())["differences"] == list(done.differences)


def test_verify_tells_every_change(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    (done,) = add(toy(server), home)
    assert [verdict.faults for verdict in verify(home, "toy/one")] == [()]
    (done.folder / "fold_0" / "checkpoint_final.pth").write_bytes(WEIGHTS[:-1] + b"!")
    (done.folder / "plans.json").unlink()
    (done.folder / "extra.pkl").write_bytes(b"x")
    (verdict,) = verify(home)
    assert verdict.model == "toy/one"
    assert verdict.faults == (
        "fold_0/checkpoint_final.pth has changed",
        "plans.json is missing",
        "extra.pkl was not there before",
    )


def test_a_removed_model_is_gone_and_an_unknown_one_is_a_usage_error(
    server: ArchiveServer, home: ModelHome, tmp_path: Path
) -> None:
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    add(toy(server), home)
    assert remove(home, "toy/one") == home.folder / "toy+one"
    assert home.roots() == {}
    assert leftovers(home) == []
    with pytest.raises(UsageError, match=r"not in the model store \(installed: none\)"):
        remove(home, "toy/one")


def test_what_a_killed_install_left_is_cleared_away(server: ArchiveServer, home: ModelHome, tmp_path: Path) -> None:
    write_folder(home.staging_of("toy/one"), {"Dataset900_Toy/half": b"x"})
    server.routes["/toy.zip"] = serve(archive_of(tmp_path))
    (done,) = add(toy(server), home)
    assert not (done.folder.parent / "half").exists()
    assert leftovers(home) == []


def test_the_store_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEGAGENT_MODELS", str(tmp_path / "weights"))
    assert default_home().folder == tmp_path / "weights"
    monkeypatch.delenv("MEDSEGAGENT_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home().folder.is_relative_to(tmp_path)


@pytest.mark.parametrize("name", [".", "../x", ".hidden", "", "/x/../y\\z"])
def test_no_model_id_leads_out_of_the_store(name: str) -> None:
    try:
        made = folder_name(name)
    except ValueError:
        return
    assert Path(made).name == made
    assert not made.startswith(".")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file size")
def test_a_disk_that_fills_up_while_unpacking_leaves_nothing_half_installed(home: ModelHome, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "m.zip", model_files(weights=bytes(2**20)))
    card = {"name": "Toy", "channel_names": {"0": "CT"}, "labels": LABELS}
    card |= {"models": [{"id": "toy/one", "parts": [{"dataset_folder": "Dataset900_Toy"}]}]}
    limited = (
        "import json, resource, sys; from pathlib import Path\n"
        "from medsegagent.cards.card import DatasetCard; from medsegagent.errors import OutputError\n"
        "from medsegagent.models.own_store import ModelHome\n"
        "from medsegagent.models.install import Installation, install\n"
        "card = DatasetCard.model_validate(json.loads(sys.argv[1]))\n"
        "how = Installation(ModelHome(Path(sys.argv[2])), archive=Path(sys.argv[3]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))\n"
        "try: install(card, card.models[0], how)\n"
        "except OutputError as error: raise SystemExit(f'as hoped: {error}')\n"
    )
    command = [sys.executable, "-c", limited, json.dumps(card), str(home.folder), str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "as hoped" in done.stderr, done.stderr
    assert "Make room" in done.stderr
    assert home.roots() == {}
    assert leftovers(home) == []
