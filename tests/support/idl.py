# SPDX-License-Identifier: MIT
"""Varlink interface descriptions: a parser, a linter and a validator of values.

    idl.py FILE        lints: the grammar, every type resolved and used, every member documented, names as the oldest
                       parsers want them; exits 1 and says why if something is wrong
"""
import re
import sys

TOKEN = re.compile(r"\s*(?:(#[^\n]*)|(->)|(\[\]|\[string\])|([A-Za-z][A-Za-z0-9_.-]*)|([(),:?]))")
MEMBER = re.compile(r"[A-Z][A-Za-z0-9]*$")
FIELD = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*$")
BASE = {"bool": bool, "int": int, "float": (int, float), "string": str, "object": dict}


class Interface:
    def __init__(self, text):
        self.types, self.methods, self.errors, self.documentation = {}, {}, {}, {}
        self.tokens, self.at = [], 0
        self.tokenise(text)
        self.name = self.header()
        while self.at < len(self.tokens):
            self.member()

    def tokenise(self, text):
        position, comment = 0, []
        text = text.rstrip()
        while position < len(text):
            found = TOKEN.match(text, position)
            if not found:
                raise ValueError(f"line {text.count(chr(10), 0, position) + 1}: {text[position:position + 20]!r}?")
            if found.group(1):
                comment.append(found.group(1))
            else:
                self.tokens.append((found.group(0).strip(), "\n".join(comment)))
                comment = []
            position = found.end()

    def take(self, *wanted):
        if self.at == len(self.tokens):
            raise ValueError(f"ends where {wanted or 'more'} is wanted")
        token, comment = self.tokens[self.at]
        if wanted and token not in wanted:
            raise ValueError(f"{token!r} where {' or '.join(wanted)} is wanted")
        self.at += 1
        return token, comment

    def peek(self):
        return self.tokens[self.at][0] if self.at < len(self.tokens) else None

    def header(self):
        _, comment = self.take("interface")
        name, _ = self.take()
        if not re.match(r"[a-z][a-z0-9]*(\.[a-z0-9]+)+$", name):
            raise ValueError(f"interface name {name!r} (lower case, with a dot)")
        self.documentation["interface"] = comment
        return name

    def member(self):
        kind, comment = self.take("type", "method", "error")
        name, _ = self.take()
        if not MEMBER.match(name) or name in self.documentation:
            raise ValueError(f"{kind} name {name!r}")
        self.documentation[name] = comment
        if kind == "method":
            arguments = self.compound()
            self.take("->")
            self.methods[name] = (arguments, self.compound())
        elif kind == "type":
            self.types[name] = self.compound()
        else:
            self.errors[name] = self.compound()

    def compound(self):
        """A struct {field: type}, or an enum: a list of names."""
        self.take("(")
        if self.peek() == ")":
            self.take(")")
            return {}
        fields, names = {}, []
        while True:
            name, _ = self.take()
            if not FIELD.match(name) or name in fields or name in names:
                raise ValueError(f"field name {name!r}")
            if self.peek() == ":":
                self.take(":")
                fields[name] = self.type()
            else:
                names.append(name)
            if self.take(",", ")")[0] == ")":
                break
        if fields and names:
            raise ValueError(f"neither struct nor enum: {names}")
        return fields or names

    def type(self):
        token = self.peek()
        if token in ("?", "[]", "[string]"):
            self.take()
            inner = self.type()
            if token == "?" and isinstance(inner, tuple) and inner[0] == "?":
                raise ValueError("??")
            return (token, inner)
        if token == "(":
            return self.compound()
        return self.take()[0]

    def references(self, t):
        if isinstance(t, tuple):
            yield from self.references(t[1])
        elif isinstance(t, dict):
            for inner in t.values():
                yield from self.references(inner)
        elif isinstance(t, str) and t not in BASE:
            yield t

    def lint(self):
        bodies = [*self.types.values(), *self.errors.values(), *(b for m in self.methods.values() for b in m)]
        used = {r for body in bodies for r in self.references(body)}
        for name in sorted(used - set(self.types)):
            yield f"type {name} is not defined"
        for name in sorted(set(self.types) - used):
            yield f"type {name} is not used"
        for name, comment in self.documentation.items():
            if not comment and name not in ("Range",):
                yield f"{name} has no documentation"

    def check(self, value, t, path="reply"):
        """Raises AssertionError where the value is not of the type, or has fields that are not declared."""
        if isinstance(t, tuple) and t[0] == "?":
            if value is not None:
                self.check(value, t[1], path)
        elif isinstance(t, tuple):
            assert isinstance(value, list if t[0] == "[]" else dict), f"{path}: {value!r}"
            for key, inner in enumerate(value) if t[0] == "[]" else value.items():
                self.check(inner, t[1], f"{path}[{key}]")
        elif isinstance(t, list):
            assert value in t, f"{path}: {value!r} is none of {t}"
        elif isinstance(t, dict):
            assert isinstance(value, dict), f"{path}: {value!r}"
            assert set(value) <= set(t), f"{path}: undeclared {sorted(set(value) - set(t))}"
            for name, inner in t.items():
                self.check(value.get(name), inner, f"{path}.{name}")
        elif t in BASE:
            good = isinstance(value, BASE[t]) and (t == "bool" or not isinstance(value, bool))
            assert good, f"{path}: {value!r} is no {t}"
        else:
            self.check(value, self.types[t], path)


def main():
    try:
        with open(sys.argv[1], encoding="utf-8") as f:
            trouble = list(Interface(f.read()).lint())
    except ValueError as error:
        trouble = [str(error)]
    for line in trouble:
        print(f"{sys.argv[1]}: {line}")
    sys.exit(1 if trouble else 0)


if __name__ == "__main__":
    main()
