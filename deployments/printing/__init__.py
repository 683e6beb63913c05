"""The output of the commands: tables for people, one JSON document for programs."""
