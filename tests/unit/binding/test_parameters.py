"""What each parameter receives."""

import pytest

from buildflow.binding.parameters import (
    Names,
    bind,
    check_element,
    check_factory,
    check_query,
    check_route,
    element_parameter,
    path_parameters,
)
from buildflow.diagnostics import Severity
from buildflow.ir.runtime import Injection
from buildflow.ir.signature import UNKNOWN, Parameter, Place, Shape, Signature

BUCKET, QUEUE = "buildflow.types.Bucket", "buildflow.types.Queue"
EVENT = "buildflow.types.FileChangeEvent"
NAMES = Names(dependencies=["model"], handles={"images": BUCKET, "jobs": QUEUE, "uploads": ""}, broken=["odd"])
HERE = Place(file="app.py")


def parameter(name: str, of: Shape | None = None, *, required: bool = True, variadic: bool = False) -> Parameter:
    known = of is not None
    return Parameter(name=name, shape=of or UNKNOWN, annotated=known, required=required, variadic=variadic, place=HERE)


def named(name: str) -> Shape:
    return Shape(kind="named", name=name, text=name.rpartition(".")[2])


def function(*parameters: Parameter) -> Signature:
    return Signature(name="app:f", parameters=parameters, place=HERE)


def test_parameters_are_found_by_name() -> None:
    bound = bind(function(parameter("model"), parameter("images"), parameter("other")), NAMES, explicit={})
    assert bound.inject == (
        Injection(parameter="model", kind="dependency", key="model"),
        Injection(parameter="images", kind="primitive", key="images"),
    )
    assert [p.name for p in bound.rest] == ["other"]
    assert bound.problems == ()


def test_an_annotation_that_is_no_handle_makes_the_name_a_coincidence() -> None:
    bound = bind(function(parameter("jobs", Shape(kind="integer"))), NAMES, explicit={})
    assert ([p.name for p in bound.rest], bound.inject, bound.problems) == (["jobs"], (), ())


def test_the_handle_of_another_type_is_a_mistake() -> None:
    bound = bind(function(parameter("images", named(QUEUE))), NAMES, explicit={})
    assert [p.code for p in bound.problems] == ["BF304"]


def test_a_primitive_without_a_handle_cannot_be_injected() -> None:
    assert [p.code for p in bind(function(parameter("uploads")), NAMES, explicit={}).problems] == ["BF304"]


def test_a_broken_declaration_is_not_told_twice() -> None:
    bound = bind(function(parameter("odd")), NAMES, explicit={})
    assert (bound.inject, bound.rest, bound.problems) == ((), (), ())


def test_inject_says_it_explicitly() -> None:
    bound = bind(function(parameter("store"), parameter("id")), NAMES, explicit={"store": "images"}, path=["id"])
    assert bound.inject == (Injection(parameter="store", kind="primitive", key="images"),)


def test_inject_that_names_nothing() -> None:
    bound = bind(function(parameter("store")), NAMES, explicit={"stor": "images", "store": "imagse"})
    assert {(p.code, p.below) for p in bound.problems} == {
        ("BF323", ("inject", "stor")),
        ("BF210", ("inject", "store")),
    }


@pytest.mark.parametrize("name", ["model", "images"])
def test_a_parameter_of_the_path_and_something_else(name: str) -> None:
    signature = function(parameter(name))
    assert [p.code for p in bind(signature, NAMES, explicit={}, path=[name]).problems] == ["BF305"]
    explicit = bind(signature, NAMES, explicit={name: name}, path=[name])
    assert ([i.key for i in explicit.inject], explicit.problems) == ([name], ())


def test_path_parameters() -> None:
    assert path_parameters("/a/{id}/b/{path:path}") == ("id", "path")
    assert path_parameters("/a/b") == ()


def test_every_path_parameter_needs_its_parameter() -> None:
    signature = function(parameter("id"), parameter("nmae"))
    bound = bind(signature, NAMES, explicit={}, path=["id", "name"])
    problems = check_route(signature, bound, "/{id}/{name}")
    assert [p.code for p in problems] == ["BF307"]
    assert problems[0].hint == 'did you mean "nmae"? rename one of the two'
    anything = function(parameter("arguments", variadic=True))
    assert check_route(anything, bind(anything, NAMES, explicit={}), "/{id}") == []


def test_the_one_required_parameter_left_takes_the_element() -> None:
    signature = function(parameter("retries", required=False), parameter("event"), parameter("model"))
    element, problems = element_parameter(signature, bind(signature, NAMES, explicit={}))
    assert element is not None
    assert (element.name, problems) == ("event", [])


def test_without_a_required_one_the_first_optional_takes_it() -> None:
    signature = function(parameter("event", required=False), parameter("other", required=False))
    element, problems = element_parameter(signature, bind(signature, NAMES, explicit={}))
    assert element is not None
    assert (element.name, problems) == ("event", [])


def test_no_element_and_two_elements() -> None:
    none, two = function(parameter("model")), function(parameter("a"), parameter("b"))
    assert [p.code for p in element_parameter(none, bind(none, NAMES, explicit={}))[1]] == ["BF306"]
    assert [p.code for p in element_parameter(two, bind(two, NAMES, explicit={}))[1]] == ["BF304"]


@pytest.mark.parametrize(
    "of",
    [
        *(UNKNOWN, named(EVENT), named("buildflow.types.gcp.GCSFileChangeEvent"), Shape(kind="mapping")),
        Shape(kind="list", text="list[FileChangeEvent]", item=named(EVENT)),
        Shape(kind="named", name="buildflow.types.Message", item=named(EVENT)),
        Shape(kind="union", options=(named("app.Order"), named(EVENT))),
    ],
)
def test_elements_that_fit_their_source(of: Shape) -> None:
    assert check_element(parameter("event", of), EVENT, "uploads") == []


@pytest.mark.parametrize(
    "of", [named("app.Order"), Shape(kind="integer"), Shape(kind="bytes"), Shape(kind="list", item=named("app.Order"))]
)
def test_elements_that_do_not(of: Shape) -> None:
    assert [p.code for p in check_element(parameter("event", of), EVENT, "uploads")] == ["BF214"]
    assert check_element(parameter("event", of), "", "jobs") == []


def test_factories() -> None:
    signature = function(parameter("weights"), parameter("size", required=False), parameter("images"))
    bound = bind(signature, NAMES, explicit={})
    assert check_factory(signature, bound, ["weights"], NAMES) == []
    assert {(p.code, p.below) for p in check_factory(signature, bound, ["wieghts"], NAMES)} == {
        ("BF323", ("with", "wieghts")),  # and not that weights is missing: that is one mistake
    }
    anything = function(parameter("options", variadic=True))
    assert check_factory(anything, bind(anything, NAMES, explicit={}), ["whatever"], NAMES) == []


def test_a_factory_of_a_request_may_take_its_parts() -> None:
    signature = function(parameter("request", named("starlette.requests.Request")), parameter("modle"))
    bound = bind(signature, NAMES, explicit={})
    assert {p.message.split('"')[1] for p in check_factory(signature, bound, [], NAMES)} == {"request", "modle"}
    (misspelt,) = check_factory(signature, bound, [], NAMES, of_request=True)
    assert (misspelt.code, misspelt.hint) == ("BF322", 'did you mean "model"?')


def test_a_consumer_has_no_request() -> None:
    signature = function(parameter("order"), parameter("request", named("starlette.requests.Request")))
    element, problems = element_parameter(signature, bind(signature, NAMES, explicit={}))
    assert element is not None
    assert element.name == "order"
    assert [p.code for p in problems] == ["BF304"]
    assert "a consumer has no request" in problems[0].message


def test_a_name_that_is_all_but_a_key_is_warned_of() -> None:
    signature = function(parameter("modle"), parameter("limit"), parameter("moedl", Shape(kind="string")))
    bound = bind(signature, NAMES, explicit={})
    (warning,) = check_query(bound, NAMES, "/")
    assert (warning.code, warning.severity) == ("BF305", Severity.WARNING)
    assert 'did you mean "model"?' in warning.hint
