"""Views: functions that turn an answer into text. A view reads no clock and no terminal, and does no input or output.

- `answers` holds the kinds of answer that commands give.
- `formats` finds a format by its name.
- Each other module that has a `FORMAT`, such as `text` or `json`, is one format.
- `phrases` holds the words that several formats share, and `columns` the layout of lines and tables.
- `edits` shows changes of manifest files, which have no format but text.

A new format is one new module. The module has a `FORMAT`, and registers a view for each kind of answer that the format
can show:

    FORMAT = Format(Channel.DOCUMENT)

    @FORMAT.shows(StatusAnswer)
    def _(answer: StatusAnswer, context: ViewContext) -> str: ...

Each command that gives this kind of answer then accepts the module's name after `--format`.
"""
