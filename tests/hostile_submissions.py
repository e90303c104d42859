"""Submissions that no honest team hands in: damaged, wrong and hostile ones, each with the status that it must get.

Their payloads only leave a marker. `make_class` writes them next to honest ones; test_grading_hostile.py grades
them all in one run.
"""

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

MEGABYTE = 2**20
MADE: dict[str, tuple[str, Callable]] = {}  # name: (expected status, maker)
BUILDERS: dict[str, tuple[str, str]] = {}  # name: (expected status, program)


class Honest(NamedTuple):
    """What honest files are made from.

    Attributes:
        folder: submission.json, model.weights.h5 and fixtures.npz of a good model; good.keras of the same.
        ids: Names of the hidden images.
        class_names: Names of the task's classes.
        marker: A file that a payload tries to make; it must never be there.
        secret: A file that nobody may read or change.
    """

    folder: Path
    ids: list[str]
    class_names: list[str]
    marker: Path
    secret: Path


def bad(status: str) -> Callable[[Callable], Callable]:
    def enter(make: Callable) -> Callable:
        MADE[make.__name__] = (status, make)
        return make

    return enter


# --- The start of each maker


def start(place: Path, honest: Honest, *left_out: str) -> Path:
    """Writes an honest submission as a folder."""
    place.mkdir()
    for name in ("submission.json", "model.weights.h5", "fixtures.npz"):
        if name not in left_out:
            shutil.copyfile(honest.folder / name, place / name)
    return place


def describe(place: Path, **changes: Any) -> None:
    """Changes `submission.json`; None removes an entry."""
    told = {**json.loads((place / "submission.json").read_text()), "files": {}, **changes}
    (place / "submission.json").write_text(json.dumps({k: v for k, v in told.items() if v is not None}))


def change_weights(place: Path, honest: Honest, change: Callable[[h5py.File], None]) -> None:
    start(place, honest)
    describe(place)
    with h5py.File(place / "model.weights.h5", "r+") as file:
        change(file)


def first(file: h5py.File) -> str:
    names = []
    file.visititems(
        lambda name, entry: names.append(name) if isinstance(entry, h5py.Dataset) and entry.ndim == 2 else None
    )
    return next(name for name in sorted(names) if name.startswith("layers"))


def replace_array(file: h5py.File, **options: Any) -> None:
    name = first(file)
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, **{"shape": shape, "dtype": "f4", **options})


def members(honest: Honest) -> dict[str, bytes]:
    with zipfile.ZipFile(honest.folder / "good.keras") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(place: Path, contents: dict[str, bytes], compress: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(place, "w", compress) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def change_config(place: Path, honest: Honest, change: Callable[[dict], None], **extra: bytes) -> None:
    contents = members(honest)
    config = json.loads(contents["config.json"])
    change(config)
    write_zip(place.with_suffix(".keras"), {**contents, "config.json": json.dumps(config).encode(), **extra})


def add_layer(config: dict, layer: dict, at: int = -1) -> None:
    config["config"]["layers"].insert(at, layer)


def layer(class_name: str, module: str = "keras.layers", **config: Any) -> dict:
    return {"module": module, "class_name": class_name, "config": {"name": "bad", **config}, "registered_name": None}


def predictions(honest: Honest, change: Callable[[list[list[str]]], None] = lambda rows: None) -> str:
    rows = [[name, honest.class_names[0]] for name in honest.ids]
    change(rows)
    return "id,label\n" + "".join(",".join(row) + "\n" for row in rows)


def write_predictions(place: Path, text: str | bytes) -> None:
    place.with_suffix(".csv").write_bytes(text if isinstance(text, bytes) else text.encode())


# --- .keras: what a config may ask for (facts: CVE-2024-3660, -2025-1550, -8747, -9906, -12058, -2026-1462, -12479, -12481)


@bad("refused")
def keras_lambda_code(place, honest):
    code = {"class_name": "__lambda__", "config": {"code": "4wE=", "defaults": None, "closure": None}}
    change_config(place, honest, lambda c: add_layer(c, layer("Lambda", function=code)))


@bad("refused")
def keras_lambda_names_a_function(place, honest):
    named = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    change_config(place, honest, lambda c: add_layer(c, layer("Lambda", function=named)))


@bad("refused")
def keras_tfsm_layer(place, honest):
    change_config(
        place, honest, lambda c: add_layer(c, layer("TFSMLayer", filepath="/tmp/model", call_endpoint="serve"))
    )


@bad("refused")
def keras_any_module(place, honest):
    change_config(place, honest, lambda c: add_layer(c, layer("system", "os", command=f"touch {honest.marker}")))


@bad("refused")
def keras_hub_module(place, honest):
    change_config(place, honest, lambda c: add_layer(c, layer("Model", "keras_hub.models")))


@bad("refused")
def keras_module_of_its_own_functions(place, honest):
    change_config(
        place, honest, lambda c: add_layer(c, layer("load_model", "keras.models", filepath=str(honest.secret)))
    )


@bad("refused")
def keras_string_lookup_reads_a_file(place, honest):
    change_config(place, honest, lambda c: add_layer(c, layer("StringLookup", vocabulary=str(honest.secret))))


@bad("refused")
def keras_registered_class(place, honest):
    def change(config):
        config["config"]["layers"][-1]["registered_name"] = "pbl>MLP"

    change_config(place, honest, change)


@bad("refused")
def keras_activation_is_an_object(place, honest):
    function = {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    change_config(place, honest, lambda c: c["config"]["layers"][-1]["config"].update(activation=function))


@bad("refused")
def keras_activation_unknown(place, honest):
    change_config(place, honest, lambda c: c["config"]["layers"][-1]["config"].update(activation="eval"))


@bad("refused")
def keras_name_is_a_path(place, honest):
    change_config(place, honest, lambda c: c["config"]["layers"][-1]["config"].update(name="../../../tmp/evil"))


@bad("refused")
def keras_class_without_a_module(place, honest):
    def change(config):
        del config["config"]["layers"][-1]["module"]

    change_config(place, honest, change)


@bad("refused")
def keras_class_name_is_a_list(place, honest):
    change_config(place, honest, lambda c: c["config"]["layers"][-1].update(class_name=["Dense"]))


@bad("refused")
def keras_huge_layer(place, honest):
    change_config(place, honest, lambda c: add_layer(c, layer("Dense", units=40_000_000)))


@bad("out_of_memory")
def keras_wide_layers(place, honest):
    def change(config):
        for number in range(6):
            add_layer(config, layer("Dense", units=16_384, name=f"wide_{number}"))

    change_config(place, honest, change)


@bad("refused")
def keras_deep_json(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "config.json": b"[" * 100_000 + b"]" * 100_000})


@bad("corrupt")
def keras_config_is_a_list(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "config.json": b"[1, 2]"})


@bad("corrupt")
def keras_config_has_nan(place, honest):
    change_config(place, honest, lambda c: c["config"].update(name=float("nan")))


@bad("refused")
def keras_config_bomb(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "config.json": b" " * (100 * MEGABYTE) + b"{}"})


@bad("refused")
def keras_weights_bomb(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "model.weights.h5": bytes(100 * MEGABYTE)})


@bad("refused")
def keras_asset(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "assets/vocabulary.txt": b"a" * MEGABYTE})


@bad("refused")
def keras_member_twice(place, honest):
    contents = members(honest)
    with zipfile.ZipFile(place.with_suffix(".keras"), "w") as archive:
        for name in (*contents, "config.json"):
            archive.writestr(name, contents[name])


@bad("refused")
def keras_leads_out(place, honest):
    write_zip(place.with_suffix(".keras"), {**members(honest), "../../evil.txt": b"x"})


@bad("corrupt")
def keras_truncated(place, honest):
    content = (honest.folder / "good.keras").read_bytes()
    place.with_suffix(".keras").write_bytes(content[: len(content) // 2])


@bad("corrupt")
def keras_empty(place, honest):
    place.with_suffix(".keras").touch()


@bad("corrupt")
def keras_is_a_web_page(place, honest):
    place.with_suffix(".keras").write_text("<!doctype html><title>Sign in</title>")


@bad("corrupt")
def keras_without_weights(place, honest):
    write_zip(place.with_suffix(".keras"), {k: v for k, v in members(honest).items() if k != "model.weights.h5"})


@bad("corrupt")
def keras_is_a_legacy_file(place, honest):
    shutil.copyfile(honest.folder / "model.weights.h5", place.with_suffix(".keras"))


@bad("incompatible")
def keras_of_the_future(place, honest):
    metadata = json.dumps({"keras_version": "99.0.0", "date_saved": "2040-01-01"}).encode()

    def change(config):
        config["config"]["layers"][-1]["config"]["new_setting"] = True

    contents = members(honest)
    config = json.loads(contents["config.json"])
    change(config)
    write_zip(
        place.with_suffix(".keras"), {**contents, "config.json": json.dumps(config).encode(), "metadata.json": metadata}
    )


@bad("incompatible")
def keras_without_softmax(place, honest):
    change_config(place, honest, lambda c: c["config"]["layers"][-1]["config"].update(activation="linear"))


@bad("wrong_classes")
def keras_other_outputs(place, honest):
    change_config(place, honest, lambda c: c["config"]["layers"][-1]["config"].update(units=7))


@bad("wrong_shape")
def keras_output_is_an_image(place, honest):
    def change(config):
        config["config"]["layers"] = config["config"]["layers"][:2]

    change_config(place, honest, change)


@bad("refused")
def keras_wants_large_images(place, honest):
    def change(config):
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 8192, 8192, 1]

    change_config(place, honest, change)


@bad("wrong_shape")
def keras_input_is_a_vector(place, honest):
    def change(config):
        config["config"]["layers"][0]["config"]["batch_shape"] = [None, 64]

    change_config(place, honest, change)


@bad("out_of_memory")
def keras_blows_images_up(place, honest):
    def change(config):
        for number in range(3):
            add_layer(config, layer("UpSampling2D", size=[16, 16], name=f"up_{number}"), 2)
        add_layer(config, layer("AveragePooling2D", pool_size=[4096, 4096], strides=[4096, 4096], name="down"), 5)

    change_config(place, honest, change)


@bad("ok")
def keras_with_a_hostile_compile_config(place, honest):
    # What belongs to training is removed without being read.
    loss = {"module": "os", "class_name": "system", "config": {}, "registered_name": None}
    change_config(place, honest, lambda c: c.update(compile_config={"optimizer": loss, "loss": loss}))


# --- Weights: what an HDF5 file may do (CVE-2026-0897, -1669, -12570; links, filters)


@bad("refused")
def weights_external_storage(place, honest):
    outside = [(str(honest.secret), 0, h5py.h5f.UNLIMITED)]
    change_weights(place, honest, lambda f: replace_array(f, external=outside))


@bad("refused")
def weights_external_link(place, honest):
    def change(file):
        name = first(file)
        del file[name]
        file[name] = h5py.ExternalLink(str(honest.folder / "model.weights.h5"), name)

    change_weights(place, honest, change)


@bad("refused")
def weights_external_group(place, honest):
    def change(file):
        del file["layers"]
        file["layers"] = h5py.ExternalLink(str(honest.folder / "model.weights.h5"), "layers")

    change_weights(place, honest, change)


@bad("refused")
def weights_soft_link(place, honest):
    def change(file):
        name = first(file)
        file.move(name, "elsewhere")
        file[name] = h5py.SoftLink("/elsewhere")

    change_weights(place, honest, change)


@bad("refused")
def weights_one_array_twice(place, honest):
    def change(file):
        file["again"] = file[first(file)]

    change_weights(place, honest, change)


@bad("refused")
def weights_cycle(place, honest):
    def change(file):
        file["layers/up"] = file["layers"]

    change_weights(place, honest, change)


@bad("refused")
def weights_virtual(place, honest):
    def change(file):
        name = first(file)
        shape = file[name].shape
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(honest.folder / "model.weights.h5"), name, shape)
        del file[name]
        file.create_virtual_dataset(name, layout)

    change_weights(place, honest, change)


@bad("refused")
def weights_bomb_in_pieces(place, honest):
    change_weights(place, honest, lambda f: replace_array(f, shape=(2**28, 16), chunks=(1024, 16)))


@bad("refused")
def weights_bomb_never_written(place, honest):
    change_weights(place, honest, lambda f: replace_array(f, shape=(2**28, 16)))


@bad("refused")
def weights_compressed(place, honest):
    change_weights(
        place, honest, lambda f: replace_array(f, data=np.zeros((2000, 2000), "f4"), shape=None, compression="gzip")
    )


@bad("refused")
def weights_words(place, honest):
    change_weights(
        place, honest, lambda f: replace_array(f, shape=(2, 2), dtype=h5py.string_dtype(), data=[["a", "b"]] * 2)
    )


@bad("refused")
def weights_references(place, honest):
    change_weights(place, honest, lambda f: replace_array(f, shape=(2, 2), dtype=h5py.ref_dtype))


@bad("refused")
def weights_records(place, honest):
    change_weights(place, honest, lambda f: replace_array(f, shape=(2, 2), dtype=np.dtype([("a", "f4"), ("b", "f4")])))


@bad("refused")
def weights_named_type(place, honest):
    def change(file):
        file["type"] = np.dtype("f4")

    change_weights(place, honest, change)


@bad("refused")
def weights_large_attribute(place, honest):
    def change(file):
        for number in range(80):
            file["layers"].attrs[f"note_{number}"] = "x" * 1000

    change_weights(place, honest, change)


@bad("refused")
def weights_user_block(place, honest):
    start(place, honest)
    describe(place)
    (place / "model.weights.h5").unlink()
    with (
        h5py.File(place / "model.weights.h5", "w", userblock_size=4096) as file,
        h5py.File(honest.folder / "model.weights.h5") as good,
    ):
        for name in good:
            good.copy(name, file)


@bad("refused")
def weights_deep(place, honest):
    change_weights(place, honest, lambda f: f.create_group("/".join(["deep"] * 200)))


@bad("corrupt")
def weights_truncated(place, honest):
    start(place, honest)
    describe(place)
    content = (place / "model.weights.h5").read_bytes()
    (place / "model.weights.h5").write_bytes(content[: len(content) * 2 // 3])


@bad("corrupt")
def weights_garbage(place, honest):
    start(place, honest)
    describe(place)
    (place / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 200)


@bad("corrupt")
def weights_damaged_within(place, honest):
    start(place, honest)
    describe(place)
    content = bytearray((place / "model.weights.h5").read_bytes())
    for at in range(600, 3000, 7):
        content[at] ^= 0xFF
    (place / "model.weights.h5").write_bytes(content)


@bad("incompatible")
def weights_other_shape(place, honest):
    change_weights(place, honest, lambda f: replace_array(f, data=np.zeros((64, 33), "f4"), shape=None))


@bad("incompatible")
def weights_other_type(place, honest):
    change_weights(
        place, honest, lambda f: replace_array(f, data=np.zeros(f[first(f)].shape, "f8"), shape=None, dtype="f8")
    )


@bad("incompatible")
def weights_missing(place, honest):
    def change(file):
        del file[first(file)]

    change_weights(place, honest, change)


@bad("incompatible")
def weights_extra(place, honest):
    change_weights(place, honest, lambda f: f.create_dataset("extra", data=np.zeros(3, "f4")))


@bad("non_finite")
def weights_nan(place, honest):
    def change(file):
        file[first(file)][0, 0] = np.nan

    change_weights(place, honest, change)


@bad("refused")
def weights_sparse(place, honest):
    start(place, honest)
    with (place / "model.weights.h5").open("r+b") as file:
        file.truncate(10 * 2**30)


# --- submission.json


@bad("incompatible")
def json_unknown_model(place, honest):
    describe(start(place, honest), model="os.system")


@bad("incompatible")
def json_other_options(place, honest):
    describe(start(place, honest), model_options={"widths": [16]})


@bad("incompatible")
def json_unknown_option(place, honest):
    describe(start(place, honest), model_options={"units": 3})


@bad("refused")
def json_option_is_a_path(place, honest):
    describe(start(place, honest), model="efficientnet_transfer", model_options={"weights": str(honest.secret)})


@bad("refused")
def json_option_is_huge(place, honest):
    describe(start(place, honest), model_options={"widths": [10**9]})


@bad("out_of_memory")
def json_options_are_large(place, honest):
    describe(start(place, honest), model_options={"widths": [4096] * 60})


@bad("refused")
def json_option_is_deep(place, honest):
    describe(start(place, honest), model_options={"widths": [[[[[[1]]]]]]})


@bad("incompatible")
def json_without_classes(place, honest):
    describe(start(place, honest), class_names=None)


@bad("wrong_classes")
def json_other_classes(place, honest):
    describe(start(place, honest), class_names=[f"<img src=x>{n}" for n in range(10)])


@bad("wrong_classes")
def json_fewer_classes(place, honest):
    describe(start(place, honest), class_names=honest.class_names[:5])


@bad("wrong_shape")
def json_strange_shape(place, honest):
    describe(start(place, honest), input_shape=[8, 8, 10**9])


@bad("wrong_shape")
def json_shape_of_bools(place, honest):
    describe(start(place, honest), input_shape=[True, True, True])


@bad("corrupt")
def json_other_hash(place, honest):
    describe(start(place, honest), files={"model.weights.h5": "0" * 64})


@bad("corrupt")
def json_no_json(place, honest):
    (start(place, honest) / "submission.json").write_text("{'format': 1}")


@bad("refused")
def json_large(place, honest):
    (start(place, honest) / "submission.json").write_text('{"format": 1, "note": "' + "x" * MEGABYTE + '"}')


@bad("refused")
def json_deep(place, honest):
    (start(place, honest) / "submission.json").write_text("[" * 20_000 + "]" * 20_000)


@bad("incompatible")
def json_missing(place, honest):
    start(place, honest, "submission.json")


@bad("incompatible")
def json_other_kind(place, honest):
    describe(start(place, honest), kind="keras")


@bad("ok")
def json_names_another_team(place, honest):
    # A file can name any team; the platform knows whose it is.
    describe(start(place, honest), team="honest_folder")


# --- fixtures.npz


@bad("refused")
def fixtures_bomb(place, honest):
    start(place, honest)
    describe(place)
    with zipfile.ZipFile(place / "fixtures.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", bytes(300 * MEGABYTE))


@bad("refused")
def fixtures_with_objects(place, honest):
    start(place, honest)
    describe(place)
    np.savez(
        place / "fixtures.npz", images=np.array([Payload(honest.marker)], object), probabilities=np.zeros((1, 10), "f4")
    )


@bad("refused")
def fixtures_declare_a_terabyte(place, honest):
    start(place, honest)
    describe(place)
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    write_zip(place / "fixtures.npz", {"images.npy": array, "probabilities.npy": array})


@bad("corrupt")
def zip_cut_off_behind_an_archive_within(place, honest):
    """As an upload that broke off: at its end is the inner archive's list of members."""
    start(place, honest)
    with zipfile.ZipFile(place / "whole.zip", "w") as archive:
        for name in ("fixtures.npz", "model.weights.h5", "submission.json"):
            if (place / name).exists():
                archive.write(place / name, name)
    with zipfile.ZipFile(place / "whole.zip") as archive:
        ends = archive.getinfo("model.weights.h5").header_offset + 60
    content = (place / "whole.zip").read_bytes()[:ends]
    for file in list(place.iterdir()):
        file.unlink()
    (place / "submission.zip").write_bytes(content)


@bad("corrupt")
def fixtures_damaged(place, honest):
    start(place, honest)
    describe(place)
    (place / "fixtures.npz").write_bytes((place / "fixtures.npz").read_bytes()[:300])


@bad("ok")
def fixtures_of_another_model(place, honest):
    start(place, honest)
    describe(place)
    with np.load(place / "fixtures.npz") as good:
        np.savez(place / "fixtures.npz", images=good["images"], probabilities=good["probabilities"][::-1])


# --- Archives and folders


class Payload:
    """What a pickle would do if it were loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@bad("refused")
def a_pickle(place, honest):
    place.mkdir()
    (place / "model.pkl").write_bytes(pickle.dumps(Payload(honest.marker)))


@bad("refused")
def a_torch_file(place, honest):
    place.mkdir()
    (place / "model.pt").write_bytes(pickle.dumps(Payload(honest.marker)))


@bad("refused")
def a_legacy_model(place, honest):
    place.mkdir()
    shutil.copyfile(honest.folder / "model.weights.h5", place / "model.h5")


@bad("refused")
def a_saved_model(place, honest):
    (place / "variables").mkdir(parents=True)
    (place / "saved_model.pb").write_bytes(b"\x08\x01")


@bad("refused")
def a_program_in_a_zip(place, honest):
    write_zip(place.with_suffix(".zip"), {"model.pkl": pickle.dumps(Payload(honest.marker))})


@bad("refused")
def two_kinds(place, honest):
    start(place, honest)
    shutil.copyfile(honest.folder / "good.keras", place / "model.keras")


@bad("refused")
def two_kinds_in_a_zip(place, honest):
    write_zip(place.with_suffix(".zip"), {"model.keras": b"x", "predictions.csv": b"id,label\n"})


@bad("refused")
def two_models(place, honest):
    place.mkdir()
    for name in ("a.keras", "b.keras"):
        shutil.copyfile(honest.folder / "good.keras", place / name)


@bad("missing")
def an_empty_folder(place, honest):
    place.mkdir()


@bad("missing")
def only_a_notebook(place, honest):
    place.mkdir()
    (place / "final (3).ipynb").write_text("{}")


@bad("missing")
def only_what_macos_leaves(place, honest):
    (place / "__MACOSX").mkdir(parents=True)
    (place / "__MACOSX" / "._model.keras").write_bytes(b"x")
    (place / ".DS_Store").write_bytes(b"x")


@bad("missing")
def a_folder_called_like_a_model(place, honest):
    (place / "model.keras").mkdir(parents=True)


@bad("refused")
def a_link_to_the_labels(place, honest):
    start(place, honest)
    (place / "model.weights.h5").unlink()
    (place / "model.weights.h5").symlink_to(honest.secret)


@bad("refused")
def a_linked_folder(place, honest):
    place.symlink_to(honest.folder)


@bad("refused")
def a_pipe(place, honest):
    start(place, honest, "model.weights.h5")
    os.mkfifo(place / "model.weights.h5")


@bad("refused")
def a_pipe_as_description(place, honest):
    start(place, honest, "submission.json")
    os.mkfifo(place / "submission.json")


@bad("refused")
def zip_in_zip_in_zip(place, honest):
    inner = place.with_suffix(".inner")
    write_zip(inner, {"submission.json": b"{}"})
    write_zip(place.with_suffix(".zip"), {"inner.zip": inner.read_bytes()})
    inner.unlink()


@bad("refused")
def zip_leads_out(place, honest):
    write_zip(place.with_suffix(".zip"), {"../../../evil": b"x", "submission.json": b"{}"})


@bad("refused")
def zip_of_windows_leads_out(place, honest):
    write_zip(place.with_suffix(".zip"), {"..\\..\\evil": b"x"})


@bad("refused")
def zip_absolute(place, honest):
    write_zip(place.with_suffix(".zip"), {str(honest.marker): b"x"})


@bad("refused")
def zip_with_a_link(place, honest):
    with zipfile.ZipFile(place.with_suffix(".zip"), "w") as archive:
        info = zipfile.ZipInfo("model.weights.h5")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(honest.secret))


@bad("refused")
def zip_encrypted(place, honest):
    write_zip(place.with_suffix(".zip"), {"submission.json": b"{}"}, zipfile.ZIP_STORED)
    content = bytearray(place.with_suffix(".zip").read_bytes())
    at = content.rfind(b"PK\x01\x02")
    content[at + 8] |= 1  # in the zip's directory
    content[6] |= 1  # and at the member itself
    place.with_suffix(".zip").write_bytes(content)


@bad("refused")
def zip_of_many(place, honest):
    write_zip(place.with_suffix(".zip"), {f"{n}.txt": b"" for n in range(5000)})


@bad("refused")
def zip_bomb(place, honest):
    contents = {name: (honest.folder / name).read_bytes() for name in ("submission.json", "fixtures.npz")}
    write_zip(place.with_suffix(".zip"), {**contents, "model.weights.h5": bytes(100 * MEGABYTE)})


@bad("corrupt")
def zip_lies_about_sizes(place, honest):
    contents = {name: (honest.folder / name).read_bytes() for name in ("submission.json", "model.weights.h5")}
    write_zip(place.with_suffix(".zip"), contents)
    content = bytearray(place.with_suffix(".zip").read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    place.with_suffix(".zip").write_bytes(content)


@bad("corrupt")
def zip_is_none(place, honest):
    place.with_suffix(".zip").write_bytes(b"Rar!\x1a\x07\x00" + bytes(1000))


@bad("missing")
def zip_empty(place, honest):
    write_zip(place.with_suffix(".zip"), {})


# --- predictions.csv


@bad("wrong_shape")
def csv_lacks_ids(place, honest):
    write_predictions(place, predictions(honest, lambda rows: rows.__delitem__(slice(0, 5))))


@bad("wrong_shape")
def csv_id_twice(place, honest):
    write_predictions(place, predictions(honest, lambda rows: rows.append(rows[0])))


@bad("wrong_shape")
def csv_unknown_id(place, honest):
    write_predictions(place, predictions(honest, lambda rows: rows.append(["../labels", "0"])))


@bad("wrong_classes")
def csv_unknown_label(place, honest):
    write_predictions(place, predictions(honest, lambda rows: rows.__setitem__(0, [rows[0][0], "=cmd|'/c calc'!A1"])))


@bad("corrupt")
def csv_other_header(place, honest):
    write_predictions(place, predictions(honest).replace("id,label", "name,class"))


@bad("corrupt")
def csv_empty(place, honest):
    write_predictions(place, "")


@bad("corrupt")
def csv_binary(place, honest):
    write_predictions(place, bytes(range(256)) * 50)


@bad("corrupt")
def csv_zero_bytes(place, honest):
    write_predictions(place, predictions(honest).encode().replace(b"label", b"la\x00el"))


@bad("corrupt")
def csv_giant_cell(place, honest):
    write_predictions(place, f'id,label\n"{"x" * MEGABYTE}",0\n')


@bad("corrupt")
def csv_ragged(place, honest):
    write_predictions(place, predictions(honest, lambda rows: rows.__setitem__(3, [*rows[3], "0.5", "0.5"])))


def table_of(honest: Honest, row: list[str]) -> str:
    header = ",".join(["id", "label", *(f"p({name})" for name in honest.class_names)])
    return header + "\n" + "".join(",".join([name, honest.class_names[0], *row]) + "\n" for name in honest.ids)


@bad("non_finite")
def csv_nan(place, honest):
    write_predictions(place, table_of(honest, ["nan"] * 10))


@bad("non_finite")
def csv_infinity(place, honest):
    write_predictions(place, table_of(honest, ["1e999", *["0"] * 9]))


@bad("incompatible")
def csv_sums(place, honest):
    write_predictions(place, table_of(honest, ["1"] * 10))


@bad("incompatible")
def csv_negative(place, honest):
    write_predictions(place, table_of(honest, ["2", "-1", *["0"] * 8]))


@bad("incompatible")
def csv_label_is_not_the_largest(place, honest):
    write_predictions(place, table_of(honest, ["0", "1", *["0"] * 8]))


@bad("corrupt")
def csv_probability_is_a_formula(place, honest):
    write_predictions(place, table_of(honest, ["=1+1", *["0"] * 9]))


@bad("wrong_classes")
def csv_other_columns(place, honest):
    write_predictions(place, table_of(honest, ["1", *["0"] * 9]).replace("p(3)", "p(cat)"))


@bad("refused")
def csv_large(place, honest):
    with place.with_suffix(".csv").open("wb") as file:
        file.write(predictions(honest).encode())
        file.truncate(3 * 2**30)


@bad("ok")
def csv_of_one_class(place, honest):
    write_predictions(place, predictions(honest))


# --- Programs: a builder.py on the instructor's list, in which the instructor has overlooked something


def program(status: str, name: str, text: str) -> None:
    BUILDERS[name] = (status, text)


BEFORE = """
import ctypes, os, signal, socket, sys, threading, time
from pathlib import Path
import numpy as np
from pbl.models import MODELS, mlp
MARKER, SECRET, GRADER = Path({marker!r}), Path({secret!r}), {grader}
FOLDER = Path(os.environ["HOME"]).parent
OUTPUT = FOLDER / "output"
def own(input_shape, num_classes, **options):
    return mlp(input_shape, num_classes, **options)
MODELS["own"] = own
def attempt(action):
    try:
        action()
    except BaseException as error:
        print(type(error).__name__, error)
        return
    print("PASSED")
def leave(status=b"", result=None):
    (OUTPUT / "status.json").write_bytes(status)
    if result is not None:
        (OUTPUT / "predictions.f32").write_bytes(result)
    os._exit(0)
FORGED = b'{{"reason": "ok", "fields": {{}}, "facts": {{"has_probabilities": true}}}}'
COUNT = {count}
"""

program("ok", "builder_honest", "")
program(
    "ok",
    "builder_looks_around",
    """
for action in (lambda: SECRET.read_text(), lambda: list(SECRET.parent.iterdir()), lambda: MARKER.write_text("x"),
               lambda: os.symlink(SECRET, OUTPUT / "x"), lambda: os.link(SECRET, OUTPUT / "x"), lambda: os.mkfifo(OUTPUT / "x"),
               lambda: SECRET.chmod(0o777), lambda: os.utime(SECRET), lambda: os.truncate(SECRET, 0), lambda: SECRET.unlink(),
               lambda: os.rename(SECRET, OUTPUT / "x"), lambda: os.rename(OUTPUT, FOLDER / "moved"),
               lambda: (FOLDER / "job.json").write_text("x"), lambda: (FOLDER / "submission" / "0").write_text("x"),
               lambda: list(Path("/tmp").iterdir()), lambda: list(Path("/root").iterdir()), lambda: Path("/etc/passwd").read_text(),
               lambda: Path("/dev/shm/pbl-marker").write_text("x"), lambda: os.memfd_create("x"),
               lambda: (FOLDER.parent / "secret" / "labels").read_text(),
               lambda: list(FOLDER.parent.iterdir())):
    attempt(action)
""",
)
program(
    "ok",
    "builder_goes_online",
    """
def tcp(): socket.create_connection(("127.0.0.1", {port}), 1)
def udp(): socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", {port}))
def unix(): socket.socket(socket.AF_UNIX).connect("\\0pbl-test")
def netlink(): socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
for action in (tcp, udp, unix, netlink, socket.socketpair): attempt(action)
""",
)
program(
    "ok",
    "builder_touches_processes",
    """
def system():
    if os.system("true"): raise OSError
for action in (os.fork, lambda: os.execv(sys.executable, [sys.executable, "-c", ""]), system,
               lambda: os.posix_spawn("/bin/true", ["true"], {{}}), os.setsid, lambda: os.kill(GRADER, 0), lambda: os.kill(os.getppid(), 0),
               lambda: os.kill(-1, 0), lambda: os.kill(0, 0), lambda: signal.pidfd_send_signal(os.pidfd_open(GRADER), 0),
               lambda: Path(f"/proc/{{GRADER}}/environ").read_bytes(), lambda: Path(f"/proc/{{os.getppid()}}/mem").open("r+b"),
               lambda: Path(f"/proc/{{os.getppid()}}/maps").read_text(), lambda: os.setuid(0),
               lambda: os.setpriority(os.PRIO_PROCESS, GRADER, 19), lambda: os.sched_setaffinity(GRADER, [0]),
               lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else 1 / 0, lambda: os.chroot("/")):
    attempt(action)
libc = ctypes.CDLL(None, use_errno=True)
for number, *arguments in ((101, 16, GRADER, 0, 0), (310, GRADER, 0, 0, 0, 0, 0), (425, 8, 0), (321, 0, 0, 0), (298, 0, 0, -1, -1, 0),
                           (29, 0, 4096, 0o1600), (248, 0, 0, 0, 0, 0), (272, 0x10000000), (157, 38, 0), (165, 0, 0, 0, 0, 0), (308, 0, 0)):
    if os.uname().machine == "x86_64" and libc.syscall(number, *arguments) >= 0:
        print("PASSED", number)
""",
)
program(
    "ok",
    "builder_reads_its_environment",
    """
told = {{name for name in os.environ if name not in {expected!r}}}
if told or "secret" in str(os.environ).lower() or os.listdir("/proc/self/fd") and any(
        "/" in (path := os.readlink(f"/proc/self/fd/{{fd}}")) and not path.startswith(("/dev/null", "/proc", "pipe:", "/dev/urandom", str(FOLDER)))
        for fd in ("0", "1", "2", "3", "4", "5") if os.path.exists(f"/proc/self/fd/{{fd}}")):
    print("PASSED", told)
""",
)
program("crashed", "builder_forges_a_status", 'leave(b\'{{"reason": "grader", "fields": {{}}, "facts": {{}}}}\')')
program("crashed", "builder_forges_no_json", "leave(b'{{' * 5000)")
program("crashed", "builder_forges_a_long_status", "leave(b' ' * 10**6 + FORGED)")
program("crashed", "builder_says_nothing", "os._exit(0)")
program("wrong_shape", "builder_forges_a_short_result", "leave(FORGED, np.zeros(7, 'f4').tobytes())")
program("crashed", "builder_forges_a_long_result", "leave(FORGED, np.zeros(COUNT * 10 + 1, 'f4').tobytes())")
program("non_finite", "builder_forges_nan", "leave(FORGED, np.full(COUNT * 10, np.nan, 'f4').tobytes())")
program("incompatible", "builder_forges_zeros", "leave(FORGED, np.zeros(COUNT * 10, 'f4').tobytes())")
program(
    "incompatible",
    "builder_leaves_a_sparse_result",
    """
with (OUTPUT / "predictions.f32").open("wb") as file: file.truncate(COUNT * 40)
leave(FORGED)
""",
)
program(
    "crashed",
    "builder_leaves_a_folder",
    """
(OUTPUT / "predictions.f32").mkdir()
leave(FORGED)
""",
)
program(
    "crashed",
    "builder_leaves_a_huge_sparse_result",
    """
with (OUTPUT / "predictions.f32").open("wb") as file: file.truncate(50 * 2**20)
leave(FORGED)
""",
)
program(
    "ok",
    "builder_forges_a_result",
    """
forged = np.tile(np.eye(10, dtype='f4')[0], (COUNT, 1))  # its own score alone
leave(FORGED, forged.tobytes())
""",
)
program(
    "crashed",
    "builder_takes_its_output_away",
    """
attempt(OUTPUT.rmdir)
os._exit(0)
""",
)
program("timeout", "builder_hangs", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(10**6)")
program(
    "timeout",
    "builder_spins",
    """
def spin():
    while True: pass
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
spin()
""",
)
program(
    "out_of_memory",
    "builder_allocates",
    """
kept = []
while True: kept.append(np.ones(2**21)); time.sleep(0.001)
""",
)
program("out_of_memory", "builder_allocates_at_once", "kept = np.ones(2**32)")
program(
    "crashed",
    "builder_writes",
    """
for number in range(10**6): (FOLDER / "scratch" / str(number)).write_bytes(bytes(2**20))
""",
)
program(
    "crashed",
    "builder_writes_many_files",
    """
for number in range(10**6): (FOLDER / "scratch" / str(number)).write_bytes(b"x")
""",
)
program(
    "crashed",
    "builder_prints",
    """
while True: print("x" * 10_000)
""",
)
program(
    "crashed",
    "builder_starts_threads",
    """
while True:
    try: threading.Thread(target=time.sleep, args=(10**6,), daemon=True).start()
    except RuntimeError: time.sleep(0.01)
""",
)
program("crashed", "builder_ends_itself", "os.kill(os.getpid(), signal.SIGSEGV); os.abort()")
program("crashed", "builder_exits", "os._exit(75)")
program("crashed", "builder_exits_as_if_unlocked", "os._exit(97)")
program("incompatible", "builder_raises", "raise SystemExit('bye')")
program("incompatible", "builder_returns_nothing", "MODELS['own'] = lambda *a, **k: None")
program("incompatible", "builder_shouts", "raise ValueError('\\x1b[31m\\u202eevil' + str(SECRET))")
program(
    "ok",
    "builder_changes_the_worker",
    """
import pbl.grading.judge, pbl.grading.worker, pbl.evaluation
pbl.grading.judge.score = None  # of its own process alone
""",
)


def make_class(
    folder: Path, honest: Honest, port: int, expected: frozenset[str], builders: Iterable[str] = tuple(BUILDERS)
) -> tuple[dict[str, str], dict[str, str]]:
    """Writes all submissions.

    Args:
        folder: Where they are written.
        honest: What they are made from.
        port: A port on this machine on which a process listens.
        expected: Names that a worker's environment may contain.
        builders: Which programs.

    Returns:
        The expected status of each team, and the hash of each builder.py that the instructor has listed.
    """
    import hashlib

    statuses, listed = {}, {}
    for name, (status, make) in MADE.items():
        make(folder / name, honest)
        statuses[name] = status
    for name in builders:
        status, text = BUILDERS[name]
        place = start(folder / name, honest)
        describe(place, model="own")
        fields = {
            "marker": str(honest.marker),
            "secret": str(honest.secret),
            "grader": os.getpid(),
            "count": len(honest.ids),
        }
        content = (BEFORE + text).format(**fields, port=port, expected=set(expected)).encode()
        (place / "builder.py").write_bytes(content + f"\n# {name}\n".encode())
        listed[hashlib.sha256((place / "builder.py").read_bytes()).hexdigest()] = name
        statuses[name] = status
    place = start(folder / "builder_unlisted", honest)
    describe(place, model="own")
    (place / "builder.py").write_text(f"from pathlib import Path\nPath({str(honest.marker)!r}).touch()\n")
    statuses["builder_unlisted"] = "refused"
    return statuses, listed
