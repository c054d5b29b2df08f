"""``rushkit data``: what it says of data that is there, is not, or is not to be fetched."""

from __future__ import annotations

from pathlib import Path

from commands import sets
from PIL import Image


def photos(folder: Path, sizes: tuple[int, ...] = (8,)) -> None:
    for split in ("train", "test"):
        place = folder / "data" / "photos" / split / "cat"
        place.mkdir(parents=True)
        for index, size in enumerate(sizes):
            Image.new("RGB", (size, size)).save(place / f"{index}.png")


def test_embedded_data_is_not_said_to_lie_in_a_folder(cli):
    assert cli("data", "fetch", "digits").out == "digits is ready: there is nothing to fetch\n"


def test_a_folder_of_images_is_checked_where_its_option_says(cli, fails, folder):
    photos(folder)
    said = fails(1, "data", "check", "folder")
    assert "hint: --data-dir or RUSHKIT_DATA name another folder, --set data.KEY=VALUE an option" in said.err
    assert "fetch" not in said.err
    said = cli("data", "check", "folder", *sets("data.path=photos"))
    assert (said.code, said.err) == (0, "")


def test_what_an_image_needs_is_an_option_that_check_takes(cli, fails, folder):
    photos(folder, (8, 9))
    said = fails(1, "data", "check", "folder", *sets("data.path=photos"))
    assert "--set data.image_size=8" in said.out
    assert cli("data", "check", "folder", *sets("data.path=photos", "data.image_size=8")).code == 0


def test_data_that_can_be_fetched_names_the_command(fails):
    said = fails(1, "data", "check", "cifar10")
    assert "hint: `rushkit data fetch cifar10` downloads it; --data-dir" in said.err


def test_a_folder_cannot_be_fetched(fails):
    assert "a folder of images cannot be downloaded" in fails(2, "data", "fetch", "folder").err


def test_only_options_of_the_data_set_are_taken(fails):
    assert (
        "--set pretrain.epochs: is no option of a data set"
        in fails(2, "data", "check", "digits", *sets("pretrain.epochs=1")).err
    )
    assert (
        "unknown option 'imagesize'; did you mean image_size?"
        in fails(2, "data", "check", "digits", *sets("data.imagesize=8")).err
    )
