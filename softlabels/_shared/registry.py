"""Classes that a name in config.yaml chooses: those of softlabels, and those of installed packages.

A package adds a class by an entry point of the registry's group, whose name is the class's name::

    [project.entry-points."softlabels.methods"]
    my_method = "my_package:MyMethod"

It is imported when its name is used, so that an installed package that is not used costs nothing, and a broken one does
no harm.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from softlabels._shared.section import Section, faults_error, faults_of, shown, spelled_properties, unknown_key
from softlabels.errors import InputError, PluginError


class Component(Section):
    """A section of config.yaml that begins with a name, and the class that the name selects.

    The fields are the keys of the section besides the name, with their ranges, defaults and descriptions. The first
    paragraph of the docstring describes it in the reference page.
    """

    #: The key of config.yaml that holds the name.
    key: ClassVar[str]
    #: As in config.yaml: lower case, digits and underscores.
    name: ClassVar[str]
    #: As people say it.
    title: ClassVar[str]
    #: Who described it where.
    source: ClassVar[str]
    #: Changes when results change; part of the store's key.
    version: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return name and parameters as plain JSON values, as in config.yaml with all defaults filled in."""
        return {self.key: self.name, **self.model_dump(mode="json")}

    @classmethod
    def summary(cls) -> str:
        """Return the first paragraph of the docstring on one line."""
        return " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError, with all that is wrong, if the class lacks what it must declare."""
        missing = [name for name in ("title", "source", "version") if not isinstance(getattr(cls, name, None), str)]
        missing += [] if cls.__doc__ else ["a docstring"]
        missing += [f"a default of {name}" for name, field in cls.model_fields.items() if field.is_required()]
        if missing:
            raise TypeError(f"{cls.__name__} ({cls.key} {cls.name!r}) must declare {', '.join(missing)}")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            cls.check_declaration()


@dataclass(frozen=True)
class Distribution:
    """An installed package, by its name and version."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


C = TypeVar("C", bound=Component)


class _BuiltIn(MutableMapping[str, type[C]]):
    """The classes of softlabels by name, each imported when it is asked for: a job uses one or two of them."""

    def __init__(self, places: Mapping[str, str]):
        self._found: dict[str, str | type[C]] = dict(places)

    def __getitem__(self, name: str) -> type[C]:
        found = self._found[name]
        if isinstance(found, str):
            module, _, attribute = found.partition(":")
            self._found[name] = found = getattr(import_module(module), attribute)
        return found

    def __setitem__(self, name: str, component: type[C]) -> None:
        self._found[name] = component

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, name: object) -> bool:
        return name in self._found


class Registry(Mapping[str, type[C]], Generic[C]):
    """The classes of one kind by name.

    Iteration and membership know all names and import nothing; only `registry[name]` imports the class.

    Parameters
    ----------
    base : type
        What every class derives from.
    group : str
        The group of entry points through which packages add classes.
    built_in : mapping
        The classes of softlabels: name to place, written as in an entry point, `"package.module:Class"`.
    """

    def __init__(self, base: type[C], group: str, built_in: Mapping[str, str]):
        self.base, self.group = base, group
        self.built_in: MutableMapping[str, type[C]] = _BuiltIn(built_in)
        self._loaded: dict[str, type[C]] = {}

    def __getitem__(self, name: str) -> type[C]:
        """Return the class of a name.

        Raises
        ------
        KeyError
            If nothing has this name.
        PluginError
            If several packages claim the name, or the one that does cannot be imported or declares something wrong.
        """
        claims = self._claims.get(name, [])
        if name in self.built_in and not claims:
            return self.built_in[name]
        if not claims:
            raise KeyError(name)
        if name in self.built_in or len(claims) > 1:
            owners = ["softlabels"] * (name in self.built_in) + [str(one) for one in self.distributions(name)]
            raise PluginError(
                f"{self.base.key} {name!r}: provided by {' and '.join(owners)}, expected one package. "
                "Uninstall all but one, or rename what one of them provides"
            )
        if name not in self._loaded:
            self._loaded[name] = self._load(claims[0])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from sorted(set(self._claims) - set(self.built_in))

    def __len__(self) -> int:
        return len(set(self.built_in) | set(self._claims))

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._claims

    def distributions(self, name: str) -> list[Distribution]:
        """Return the installed packages that provide a name; none if only softlabels does."""
        return [_distribution(claim) for claim in self._claims.get(name, [])]

    def algorithm(self, name: str, stage_version: str) -> str:
        """Return what a store's key holds of the code behind a name.

        It is the version of the class; of one from another package with the package's name before it, because two
        packages may give one name to different things. The version of the stage follows from "2" on.

        Examples
        --------
        >>> from softlabels.methods import METHODS
        >>> METHODS.algorithm("svls", "1"), METHODS.algorithm("svls", "2")
        ('3', '3+2')
        """
        version = ":".join([*(one.name for one in self.distributions(name)), self[name].version])
        return version if stage_version == "1" else f"{version}+{stage_version}"

    def from_json(self, content: Mapping[str, Any]) -> C:
        """Return the component of a name and parameters, as `Component.to_json` gives them.

        Raises
        ------
        KeyError, PluginError
            As for ``registry[name]``.
        InputError
            If a parameter does not fit; names all that do not.
        """
        parameters = dict(content)
        component = self[parameters.pop(self.base.key)]
        try:
            return component.model_validate(parameters)
        except ValidationError as error:
            raise InputError(f"{component.key} {component.name}: {'; '.join(faults_of(error, component))}") from None

    @cached_property
    def _claims(self) -> dict[str, list[EntryPoint]]:
        """What installed packages provide, by name."""
        found = defaultdict(list)
        for entry_point in entry_points(group=self.group):
            found[entry_point.name].append(entry_point)
        return dict(found)

    def _load(self, entry_point: EntryPoint) -> type[C]:
        """Import what a package provides and check what it declares."""
        where = f"{self.base.key} {entry_point.name!r} of {_distribution(entry_point)} ({entry_point.value})"
        try:
            found = entry_point.load()
            if isinstance(found, type) and issubclass(found, Section):
                found.model_rebuild()  # What pydantic cannot check is an error of the package, too.
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{where}: cannot be imported ({reason}). Repair or uninstall the package") from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise PluginError(f"{where}: got {found!r}, expected a subclass of {self.base.__qualname__}")
        if getattr(found, "name", None) != entry_point.name:
            raise PluginError(
                f"{where}: the class declares the name {getattr(found, 'name', None)!r}, expected that of its entry "
                "point. Rename one of them"
            )
        return found


def _distribution(entry_point: EntryPoint) -> Distribution:
    """Return the package that declares an entry point."""
    found = entry_point.dist
    return Distribution(found.name, found.version) if found else Distribution("an unknown package", "")


class Chosen(Generic[C]):
    """Annotation of a field that holds one component: validates by the class that the name in it chooses.

    In place of a discriminated union: a union would import the classes of all packages, and would fail as a whole
    with the first broken one. In JSON schemas it is the union of the classes of softlabels, open for other names.

    Examples
    --------
    ``seeds: Annotated[SeedStrategy, Chosen(STRATEGIES)]``
    """

    def __init__(self, registry: Registry[C]):
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        serialization = core_schema.plain_serializer_function_ser_schema(self._to_plain, info_arg=True)
        return core_schema.no_info_plain_validator_function(self._component, serialization=serialization)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        key, built_in = self.registry.base.key, self.registry.built_in
        named = []
        for name, component in built_in.items():
            of_model = handler.resolve_ref_schema(handler(component.__pydantic_core_schema__))
            properties = {
                key: {"const": name, "type": "string"},
                **spelled_properties(component, of_model.get("properties", {})),
            }
            named.append(of_model | {"properties": properties, "required": [key, *of_model.get("required", [])]})
        other = {
            "description": f"a {key} of an installed package",
            "type": "object",
            "properties": {key: {"type": "string", "not": {"enum": list(built_in)}}},
            "required": [key],
        }
        return {"oneOf": [*named, other]}

    def _component(self, value: Any) -> C:
        """Return the component that a mapping describes; raise with every fault."""
        registry, key = self.registry, self.registry.base.key
        if isinstance(value, registry.base):
            return value
        if not isinstance(value, dict):
            raise faults_error([f": got {shown(value)}, expected keys and values, among them '{key}'"])
        if key not in value:
            raise faults_error([f".{key}: missing. Add it, one of {', '.join(registry)}"])
        name = value[key]
        try:
            component = registry[name] if isinstance(name, str) else None
        except PluginError as error:
            raise faults_error([f": {error}"]) from error
        except KeyError:
            component = None
        if component is None:
            hint = unknown_key(name if isinstance(name, str) else "", list(registry))
            raise faults_error([f".{key}: got {shown(name)}, which no installed package provides. {hint}"])
        try:
            return component.model_validate({k: v for k, v in value.items() if k != key})
        except ValidationError as error:
            raise faults_error([f".{fault}" for fault in faults_of(error, component)]) from error

    @staticmethod
    def _to_plain(value: C, info: Any) -> dict[str, Any]:
        """Return name and parameters, as they are dumped around it."""
        options = {"mode": info.mode, "exclude_defaults": info.exclude_defaults, "exclude_none": info.exclude_none}
        return {value.key: value.name, **value.model_dump(**options)}
