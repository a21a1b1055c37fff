"""`fedpolyp site`: the same federation at real hospitals, from certificates to the run."""

import typer

from fedpolyp.cli.site import certificates, check, join, log, registration, run, serve, status

app = typer.Typer(help="Set up and run a federation of real hospitals.", no_args_is_help=True)
# In the order in which they are needed.
app.command()(certificates.init)
app.command()(certificates.renew)
app.command()(certificates.keygen)
app.command()(certificates.certify)
app.command()(serve.serve)
app.command()(registration.register)
app.command()(registration.unregister)
app.command()(join.join)
app.command()(check.check)
app.command()(log.log)
app.command()(status.status)
app.command()(run.run)
