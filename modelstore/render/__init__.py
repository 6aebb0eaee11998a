"""Results as text: for a terminal, a script, a CI system, a browser.

The map:

- `report` has the `Report` of a command and writes it in every format; `formats` lists the formats
  and makes the envelope of every JSON object.
- `rows` writes rows as JSON, JSON lines, CSV and TSV. `grid` is a small table, `table` draws it on
  a terminal with Rich.
- `columns` describes the columns of a model for a person.
- `findings`, `junit`, `html` and `github` show a verification; `inspection`, `inspection_json` and
  `log_picture` a WAL; `fold` a checkpoint; `preset` models as a presets file of llama-server.
- `log_map` counts the frames of a log in bins, by table; `watch_view` draws it on a whole terminal,
  `log_page` on a page. `page` has the frame and the look of every page.

A renderer takes values and returns text, or a `Report`; it opens nothing and prints nothing. It may
import values from everything below (`finding`, `database`, `wal`, `model`), and neither `verify`
nor `cli`. To add a format of verifications, add a module like `junit`; `cli` offers it.
"""
