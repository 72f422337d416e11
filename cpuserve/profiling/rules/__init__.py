"""The rules that findings are made by, a family a module; they change no setting."""
