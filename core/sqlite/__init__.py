"""Django's database backend for SQLite, whose connections notice when the file was replaced."""
