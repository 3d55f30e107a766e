"""A folder of bad workflow specs by name, and what every entry says about all of them at once."""

from __future__ import annotations

_RIGHT = b"description: Counts.\nowner: a@example.com\nentrypoint: run.py\nschedule: rate(1 day)\n"

BAD_SPECS = {
    "a_latin_1": _RIGHT + "timeout_s: 60\n# für alle\n".encode("latin-1"),
    "b_unfinished": _RIGHT + b"timeout_s: 60\nalarms: {failed: true\n",
    "c_twice": _RIGHT + b"timeout_s: 60\ntimeout_s: 90\n",
    "d_control_character": _RIGHT + "# für\ntimeout_s: 60 \x00\n".encode(),
    "e_no_such_day": _RIGHT.replace(b"Counts.", b"2026-02-31") + b"timeout_s: 60\n",
    "f_two_documents": _RIGHT + b"---\ntimeout_s: 60\n",
    "g_list_as_key": _RIGHT + b"timeout_s: 60\n? [a]\n: b\n",
    "h_within_itself": _RIGHT + b"timeout_s: 60\nevent: &it\n  detail: *it\n",
    "i_fields": _RIGHT + b"timeout_s: 0\nengine: airflow\nreport: {attach: pdf}\n",
    "j_empty": b"",
}

BAD_SPECS_TOLD = [
    "workflows/a_latin_1/workflow.yml:6:4: expected UTF-8, got the byte 0xfc",
    "workflows/b_unfinished/workflow.yml:7:1: not valid YAML: did not find expected ',' or '}'",
    "workflows/c_twice/workflow.yml:6:1: not valid YAML: timeout_s is given twice",
    "workflows/d_control_character/workflow.yml:6:15: not valid YAML: the character U+0000 is not allowed",
    "workflows/e_no_such_day/workflow.yml:1:14: not valid YAML: day is out of range for month",
    "workflows/f_two_documents/workflow.yml:5:1: not valid YAML: but found another document",
    "workflows/g_list_as_key/workflow.yml:6:3: not valid YAML: found unhashable key",
    "workflows/h_within_itself/workflow.yml: expected values that end, one is nested in itself",
    "workflows/i_fields/workflow.yml: entrypoint: expected a file run.py beside the spec, there is none",
    "workflows/i_fields/workflow.yml: timeout_s: expected 1–43200, got 0",
    "workflows/i_fields/workflow.yml: report.attach: expected link or none, got 'pdf'",
    "workflows/i_fields/workflow.yml: engine: expected twin, got 'airflow', and Airflow is not part of this version",
    "workflows/j_empty/workflow.yml: expected a mapping of fields, got nothing",
]
