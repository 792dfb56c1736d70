"""Views: functions that turn an answer into text. They use no clock, no terminal, no input and no output.

- `answers` holds the kinds of answer that commands give.
- `formats` finds a format by its name.
- Each of `text`, `json`, `markdown`, `html`, `github`, `junit` and `sarif` is one format.
- `phrases` holds the words that several formats share, and `columns` the layout of lines and tables.
- `edits` shows changes of manifest files, which have no format but text.

To add a format, add a module that has a `FORMAT`, and register a view for each kind of answer that it shows:

    FORMAT = Format(Channel.DOCUMENT)

    @FORMAT.shows(StatusAnswer)
    def _(answer: StatusAnswer, context: ViewContext) -> str: ...

Each command that gives this kind of answer then takes the module's name after `--format`.
"""
