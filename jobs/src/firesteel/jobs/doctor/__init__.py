"""The checks of `firesteel doctor`: of the machine and a spec (`machine`), and of their security (`security`)."""
