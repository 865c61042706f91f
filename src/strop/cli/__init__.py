"""The command line: one small file per verb, no logic of its own.

`strop.cli.main` names the verbs and turns errors into messages and exit codes; a verb's module is imported when the
verb is called, and imports what is heavy inside its function.
"""
