"""Finders that plugins offer: what they find is checked (in models: `test_parts.py`)."""

import sys

import numpy as np
import pytest

import allkit
from allkit import Finder, Found, find_cells
from allkit.errors import ConfigError, PluginError
from allkit.plugins import Registry, using
from allkit.records import RED_CELL, Cell
from parts_of_others import host

FIELD = np.full((200, 300, 3), 230, np.uint8)


def of(find, **version):
    return host(allkit_finders=[Finder("odd", find)], **version)


def found(find, image=FIELD):
    with using(of(find)):
        return find_cells(image, "odd")


def cells(*places, **more):
    x_y_diameter = np.array(places, float).reshape(-1, 3)
    return Found(x_y_diameter[:, :2], x_y_diameter[:, 2], **more)


def test_allkits_own_finders_come_through_the_same_door():
    with using(Registry(discover=False)) as made:
        assert made.names("finder") == ["cells-1", "cells-2"]
        assert find_cells(FIELD, "cells-1").finder == "allkit.cells/1"
        assert find_cells(FIELD, "allkit/cells-2").finder == find_cells(FIELD).finder
        assert find_cells(FIELD, "allkit.cells/2").finder == "allkit.cells/2"


def test_hook_allkit_finders_offers_a_finder_by_name_and_with_settings():
    with using(host()):
        few = find_cells(FIELD, "diagonal")
        many = find_cells(FIELD, {"acme/diagonal": {"cells": 5}})
        assert (few.count, many.count) == (2, 5)
        assert few.finder == 'acme/diagonal{"cells":2}'
        assert find_cells(FIELD, many.finder).count == 5
        with pytest.raises(ConfigError, match=r"diagonl.*Did you mean 'diagonal'"):
            find_cells(FIELD, "diagonl")
        with pytest.raises(ConfigError, match="cells = 99"):
            find_cells(FIELD, {"diagonal": {"cells": 99}})


def test_a_field_is_scaled_by_its_red_cells_where_the_finder_leaves_that_to_allkit():
    result = found(lambda image: cells((30, 40, 20), (60, 80, 50), red_cell=30.0))
    assert result.scale == RED_CELL / 30
    assert result.image.shape == (100, 150, 3)
    assert result.cells == (Cell(60, 80, 50), Cell(30, 40, 20))
    assert result.red_cell == 30
    near = found(lambda image: cells((30, 40, 20), red_cell=12.0))
    assert (near.scale, near.image.shape) == (1.0, FIELD.shape)


def test_a_finder_may_bring_the_field_at_its_own_scale():
    half = np.ascontiguousarray(FIELD[::2, ::2])
    result = found(lambda image: cells((30, 40, 20), image=half, scale=0.5))
    assert result.image is half
    assert result.cells == (Cell(60, 80, 40),)
    assert allkit.images.cells.shortcomings(result) == ("unknown_magnification",)


def test_a_field_without_cells_is_one_without_cells():
    result = found(lambda image: Found([], [], red_cell=15.0))
    assert result.centres.shape == (0, 2)
    assert allkit.images.cells.shortcomings(result) == ("no_white_cells",)


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lambda image: 1 / 0, "failed in `find`: ZeroDivisionError"),
        (lambda image: sys.exit(0), "SystemExit: 0"),
        (lambda image: ([], []), "returned a tuple in `find`"),
        (lambda image: Found(np.zeros((2, 3)), np.ones(2)), r"centres \(2, 3\) float64.*\(M, 2\)"),
        (lambda image: Found(np.zeros((2, 2)), np.ones(3)), "2 centres and 3 diameters"),
        (lambda image: cells((np.nan, 1, 1)), "finite"),
        (lambda image: Found(np.array([["a", "b"]]), np.ones(1)), "finite"),
        (lambda image: cells((301, 10, 5)), "x = 301, y = 10 .*300 × 200"),
        (lambda image: cells((-1, 10, 5)), "outside the image"),
        (lambda image: cells((10, 10, 0)), "diameter 0 .*above 0"),
        (lambda image: cells((1, 1, 1), red_cell=-3), "red_cell = -3"),
        (lambda image: cells((1, 1, 1), red_cell=float("nan")), "red_cell = nan"),
        (lambda image: cells((1, 1, 1), image=image[::2], scale=0.5), r"\(100, 300, 3\) uint8"),
        (lambda image: cells((1, 1, 1), image=image / 255.0), "float64"),
    ],
)
def test_what_cannot_be_is_named_with_package_and_finder(find, message):
    with pytest.raises(PluginError, match=message) as error:
        found(find)
    assert str(error.value).startswith("acme 1.2: the finder 'odd'")
