"""Rows and reports as table, json, jsonl, csv and tsv."""
