"""The registry: names of installed packages, what is wrong with them, and what stands in a key."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from helpers.made_distribution import made_distribution
from pydantic import Field

from softlabels._shared.registry import Registry
from softlabels.errors import InputError, PluginError
from softlabels.methods import METHODS, Method, SeededMethod
from softlabels.seeds import ErosionSeeds, SeedStrategy

GAUSSIAN, SVLS = METHODS["gaussian"], METHODS["svls"]


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry of one method, and a function that installs packages for it."""

    def made(**packages: dict[str, str]) -> Registry[Method]:
        for name, methods in packages.items():
            made_distribution(tmp_path / name, f"softlabels-{name}", methods)
            monkeypatch.syspath_prepend(str(tmp_path / name))
        return Registry(Method, "softlabels.methods", {"gaussian": "softlabels.methods.gaussian:Gaussian"})

    return made


def test_names_are_known_without_importing_anything(registry):
    found = registry(first={"zebra": "no_such_module:Z"}, second={"ant": "no_such_module:A"})
    assert list(found) == ["gaussian", "ant", "zebra"] and len(found) == 3 and "ant" in found and "bee" not in found
    assert found["gaussian"] is GAUSSIAN and found.distributions("gaussian") == []
    assert [str(one) for one in found.distributions("ant")] == ["softlabels-second 1.0"]
    with pytest.raises(KeyError):
        found["bee"]


def test_a_class_of_a_package_is_loaded_once_and_keyed_by_package_and_version(registry):
    found = registry(first={"svls": "softlabels.methods.svls:SVLS"})
    assert found["svls"] is found["svls"] is SVLS
    assert found.algorithm("svls", "1") == f"softlabels-first:{SVLS.version}"
    assert found.algorithm("svls", "2") == f"softlabels-first:{SVLS.version}+2"
    assert found.algorithm("gaussian", "1") == GAUSSIAN.version


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_module:Thing", r"cannot be imported \(ModuleNotFoundError.*Repair or uninstall"),
        ("math:no_such_name", r"cannot be imported \(AttributeError"),
        ("math:pi", "got 3.14.*expected a subclass of Method"),
        ("softlabels.seeds:ErosionSeeds", "expected a subclass of Method"),
        ("softlabels.methods.svls:SVLS", "declares the name 'svls', expected that of its entry point"),
    ],
)
def test_a_broken_package_is_named(registry, value, says):
    found = registry(first={"broken": value})
    assert found["gaussian"] is GAUSSIAN
    with pytest.raises(PluginError, match=f"method 'broken' of softlabels-first 1.0.*{says}"):
        found["broken"]


def test_a_package_with_a_field_that_pydantic_cannot_check_is_named(registry, tmp_path):
    found = registry(first={"odd": "with_odd_field:Odd"})
    (tmp_path / "first" / "with_odd_field.py").write_text(
        "from softlabels.methods.svls import SVLS\nclass Thing: pass\n"
        "class Odd(SVLS):\n    'A method.'\n    name = 'odd'\n    thing: Thing = None\n"
    )
    with pytest.raises(PluginError, match=r"'odd' of softlabels-first 1.0.*PydanticSchemaGenerationError.*Thing"):
        found["odd"]


def test_a_name_that_two_packages_claim_is_refused_and_the_others_are_not(registry):
    twice = {"svls": "softlabels.methods.svls:SVLS"}
    found = registry(
        first=twice,
        second=twice,
        third={"gaussian": "other:Gaussian", "dilation": "softlabels.methods.dilation:Dilation"},
    )
    with pytest.raises(PluginError, match=r"method 'svls': provided by softlabels-(first|second) 1.0 and softlabels-"):
        found["svls"]
    with pytest.raises(PluginError, match="method 'gaussian': provided by softlabels and softlabels-third 1.0"):
        found["gaussian"]
    assert found["dilation"].name == "dilation"


def test_parameters_that_do_not_fit_are_all_named():
    with pytest.raises(InputError, match="method svls: kernel_size: got 4.*sigma: got -1"):
        METHODS.from_json({"method": "svls", "kernel_size": 4, "sigma": -1})
    assert METHODS.from_json(SVLS(sigma=2).to_json()) == SVLS(sigma=2)


class _Declared:
    """What every method declares."""

    title: ClassVar[str] = "t"
    source: ClassVar[str] = "s"
    version: ClassVar[str] = "1"


@pytest.mark.parametrize(
    ("base", "declared", "annotations", "says"),
    [
        (Method, {"title": None}, {}, "must declare title"),
        (Method, {}, {"sigma": float}, "must declare a default of sigma"),
        (Method, {"needs": frozenset({"mri"})}, {}, r"needs: got \['mri'\], expected some of image"),
        (Method, {"needs": frozenset({"seeds"})}, {}, r"needs: \['seeds'\] comes with a base class"),
        (Method, {"blend": "stir"}, {}, "blend: got 'stir'"),
        (Method, {"blend": "mix_onehot"}, {}, "rule 'mix_onehot' needs a field 'alpha'"),
        (Method, {"absent": {"paper": 1.0}}, {}, r"\['paper'\] are not among standard"),
        (Method, {"augmentation": {"flip": True}}, {}, r"augmentation: got \['flip'\]"),
        (
            SeededMethod,
            {"default_seeds": {"paper": ErosionSeeds()}},
            {},
            "default_seeds has paper, expected a value for each",
        ),
    ],
)
def test_a_declaration_that_does_not_fit_is_an_error_when_the_class_is_made(base, declared, annotations, says):
    content: Mapping[str, Any] = {"__doc__": "A method.", "__module__": __name__, "name": "x", **declared}
    with pytest.raises(TypeError, match=says):
        type("X", (_Declared, base), {**content, "__annotations__": annotations})


def test_a_strategy_needs_a_docstring_and_its_defaults():
    class Fine(_Declared, SeedStrategy):
        """Fine."""

        name: ClassVar[str] = "fine"
        n: int = Field(1)

    assert Fine().to_json() == {"strategy": "fine", "fallback": True, "per_component": True, "n": 1}
    with pytest.raises(TypeError, match="a docstring"):
        type("X", (_Declared, SeedStrategy), {"__doc__": None, "__module__": __name__, "name": "x"})
