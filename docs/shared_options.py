"""For mkdocstrings, which reads sources without importing them: `**options` written out, with the defaults.

A function decorated with `@shares(SomeOptions, name=default)` gets the fields of the `TypedDict` in its signature, as
`help()` shows it, with the values of `Defaults` unless the decorator gives others; and their descriptions in its table
of parameters are a link to the `TypedDict`, which describes each field once.

An equation decorated with `@signed_map` or `@positive_map` gets the arguments and words of `SignedMap` or
`PositiveMap`.
"""

import griffe

OPTIONS = "recipes.explain.engine.options"
METHODS = "recipes.explain.attribution.layer_method"
KINDS = {"signed_map": "SignedMap", "positive_map": "PositiveMap"}


class SharedOptions(griffe.Extension):
    def on_package(self, *, pkg, **kwargs):
        if OPTIONS.split(".", 1)[0] != pkg.name:
            return
        module = pkg[OPTIONS.split(".", 1)[1]]
        for function in _functions(pkg, set()):
            for decorator in function.decorators:
                call = decorator.value
                if isinstance(call, griffe.ExprCall) and str(call.function) == "shares":
                    _write_out(function, dict(_own(call)), module[_kind(call)], module)
                elif str(call) in KINDS:
                    like = pkg[f"{METHODS}.{KINDS[str(call)]}.__call__".split(".", 1)[1]]
                    _become(function, like)
                    _write_out(function, {}, module["LayerOptions"], module)


def _kind(call):
    return str(call.arguments[0])


def _own(call):
    return ((argument.name, argument.value) for argument in call.arguments[1:])


def _become(function, like):
    function.parameters = griffe.Parameters(*(one for one in like.parameters if one.name != "self"))
    rest = like.docstring.value
    function.docstring.value += "\n\n" + rest[rest.index("Args:") :]


def _functions(scope, seen):
    for member in scope.members.values():
        if member.is_alias or member.path in seen:
            continue
        seen.add(member.path)
        if member.is_function:
            yield member
        elif member.is_module or member.is_class:
            yield from _functions(member, seen)


def _write_out(function, own, kind, module):
    known = _fields(kind, module)
    parameters = [one for one in function.parameters if one.kind is not griffe.ParameterKind.var_keyword]
    for name, default in module["Defaults"].attributes.items():
        if name in known:
            parameters.append(
                griffe.Parameter(
                    name,
                    annotation=known[name].annotation,
                    kind=griffe.ParameterKind.keyword_only,
                    default=own.get(name, default.value),
                )
            )
    function.parameters = griffe.Parameters(*parameters)


def _fields(typed_dict, module):
    """The attributes of a `TypedDict`, with those it inherits."""
    inherited = {}
    for base in typed_dict.bases:
        if str(base) in module.members and not module.members[str(base)].is_alias:
            inherited |= _fields(module[str(base)], module)
    return inherited | dict(typed_dict.attributes)
