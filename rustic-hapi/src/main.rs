//! The program: parse, call one library function, print, exit.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use hapi_sources::{Identities, Stop};
use rustic_hapi::cli::meant::Restoring;
use rustic_hapi::cli::{Cli, Command, ProfileCommand, completions, man};
use rustic_hapi::commands::{
    check, drill, env, export, forget, init, recovery_kit, restore, restore_in_place, sessions,
    snapshots,
};
use rustic_hapi::report::{self, error_output};
use rustic_hapi::schedule::{self, Machine};
use rustic_hapi::signals::Signals;
use rustic_hapi::supervise::follow::{Follow, follow};
use rustic_hapi::supervise::watch::Overrun;
use rustic_hapi::supervise::{Task, supervise, take_snapshot};
use rustic_hapi::{Context, Error, Exit, Lookup, Output, Profile, Ui, Verbosity, doctor};

fn main() -> ExitCode {
    rustic_hapi::process::protect();
    rustic_hapi::process::report_panics();
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // A timer or a crontab calls it so.
    if cli.may_drill() {
        rustic_hapi::process::give_way();
    }
    let signals = Signals::listen();
    let ui = cli.global.ui();
    let lookup = cli.global.lookup();
    let overrun = Overrun::default();
    let ended = || signals.error().or_else(|| overrun.error());
    // Before anything is on record: what is refused so is nobody's run.
    let refused = match cli.may_begin(&lookup) {
        Err(error) => Some(error),
        Ok(told) => {
            told.iter().for_each(|told| ui.warn(told));
            None
        }
    };
    let supervised = match refused {
        Some(_) => None,
        None => cli.supervised(&lookup, rustic_hapi::process::now()),
    };
    let work = || match refused {
        Some(error) => Err(error),
        None => run(&cli, &lookup, &signals, &ended, &ui),
    };
    let now = rustic_hapi::process::now();
    let output = match supervised {
        Some((command, quietly)) => {
            let task = Task {
                command,
                lookup: &lookup,
                now,
                quietly,
                dry_run: cli.is_dry_run(),
            };
            let say = |output: &mut Output| say(&cli, output, &ui);
            supervise(task, &ui, &signals.stop, &overrun, &ended, &say, work)
        }
        None => {
            let mut output = work()
                .unwrap_or_else(|error| error_output(&signals.error().unwrap_or(error)))
                .in_a_call(&ui.call);
            // What was told to stop and still did everything is complete.
            if let Some(error) = signals.error().filter(|_| output.exit != Exit::Complete) {
                output.ended_by(&error);
            }
            say(&cli, &mut output, &ui);
            output
        }
    };
    if let Some(key) = &output.shown_once {
        let mut stdout = io::stdout().lock();
        // What nobody saw is lost: here a reader that went away is a failure, too.
        let shown = stdout
            .write_all(key.as_bytes())
            .and_then(|()| stdout.flush());
        if let Err(error) = shown {
            ui.complain(&format!(
                "error: the recovery key could not be shown: {error}"
            ));
            ui.complain("hint: `rustic-hapi recovery-kit --new-key` makes another");
            return ExitCode::from(Exit::Failed as u8);
        }
    }
    let next = Follow {
        copy: cli.may_copy(),
        prune: cli.may_prune(),
        drill: cli.may_drill(),
    };
    // One document is one command's.
    let text = |output: &mut Output| match cli.global.json {
        true => output.complaints.iter().for_each(|line| ui.complain(line)),
        false => say(&cli, output, &ui),
    };
    ExitCode::from(follow(next, &lookup, &signals, output.exit, &ui, &text) as u8)
}

/// Says what came of it. What cannot be said is part of how it ended.
fn say(cli: &Cli, output: &mut Output, ui: &Ui) {
    if output.exit >= Exit::HungUp
        && let Some(hint) = cli.after_a_signal()
    {
        output.complaints.push(format!("hint: {hint}"));
    }
    output.told(ui).iter().for_each(|line| ui.complain(line));
    let text = match cli.global.json {
        true => format!("{:#}\n", output.json),
        false => output.text(ui),
    };
    if let Err(error) = rustic_hapi::process::say(text.as_bytes()) {
        for line in output.unsaid(&error, cli.exit_unsaid()) {
            ui.complain(&line);
        }
    }
}

/// What clap has to say, as one document where that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        // Up to the empty line before the usage: an argument that is missing has a line of its own.
        let fact = error
            .to_string()
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        let fact = fact.strip_prefix("error: ").unwrap_or(&fact).to_owned();
        let error = Error::usage(fact, "see `rustic-hapi --help`");
        // It fails in any case.
        _ = rustic_hapi::process::say(format!("{:#}\n", error_output(&error).json).as_bytes());
    }
    // `--help` and `--version`, too, are asked for.
    match error.print().and_then(|()| io::stdout().flush()) {
        Err(failure) if !error.use_stderr() && failure.kind() != io::ErrorKind::BrokenPipe => {
            rustic_hapi::process::tell(format_args!(
                "error: nothing could be written: {failure}\n"
            ));
            ExitCode::from(Exit::Failed as u8)
        }
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)),
    }
}

fn run(
    cli: &Cli,
    lookup: &Lookup,
    signals: &Signals,
    ended: &dyn Fn() -> Option<Error>,
    ui: &Ui,
) -> Result<Output, Error> {
    let stop = &signals.stop;
    let context = &Context {
        clock: &rustic_hapi::process::now,
        stop,
        ui,
    };
    match &cli.command {
        Command::Init(args) => match args.copy(&cli.global) {
            Some(request) => {
                let output = match init::copy::run(lookup, &request, stop) {
                    Ok(report) => report.output(),
                    Err(not_made) if not_made.in_main => return Err(not_made.error),
                    Err(not_made) => error_output(&not_made.error),
                };
                Ok(output.in_a_call(&ui.call.of_copy(&request.name)))
            }
            None => init::run(lookup, &args.request(&cli.global), stop)
                .map(|report| report.output().in_a_call(&ui.call.of_the_profile())),
        },
        Command::Snapshot(args) => {
            let profile = Profile::load(lookup)?;
            take_snapshot(&profile, &args.request()?, ended, context)
                .map(|report| report.output(ui.colour))
        }
        Command::Snapshots(args) => {
            let found = Profile::load_or_reach(lookup)?;
            snapshots::run(found.reading(), &args.request(), context)
                .map(|listing| listing.output(context.now(), ui.colour))
        }
        Command::Sessions(args) => {
            let found = Profile::load_or_reach(lookup)?;
            sessions::run(found.reading(), &args.request()?, context)
                .map(|listing| listing.output(ui.colour))
        }
        Command::Export(args) => {
            let request = args.request(cli.global.json)?;
            let found = Profile::load_or_reach(lookup)?;
            let stdout = &mut rustic_hapi::process::Stdout;
            export::run(found.reading(), &request, stdout, context).map(|report| report.output())
        }
        Command::Status(args) => {
            let found = Profile::load_or_reach(lookup)?;
            let file = args.prometheus.as_deref();
            rustic_hapi::supervise::status(lookup, found.reading(), &args.request(), file, context)
                .map(|status| status.output(ui, args.markdown))
        }
        Command::Drill(args) => {
            let found = Profile::load_or_reach(lookup)?;
            let request = args.request();
            if let Some(why) = drill::not_due(found.reading(), &request, context.now())? {
                return Ok(Output::nothing_to_do("drill", &why));
            }
            let identities = identities(&args.identity, stop, ui)?;
            let Some(profile) = found.reading().profile else {
                return drill::run(found.reading(), &request, identities.as_ref(), context)
                    .map(|report| report.output(ui.colour));
            };
            let place = drill::whose_turn(profile, &request);
            let call = match &place.copy {
                Some(name) => ui.call.of_copy(name),
                None => ui.call.clone(),
            };
            drill::run(place.reading(), &request, identities.as_ref(), context)
                .map(|report| report.output(ui.colour).in_a_call(&call))
        }
        Command::Restore(args) => {
            let found = Profile::load_or_reach(lookup)?;
            let identities = identities(&args.identity, stop, ui)?;
            let identities = identities.as_ref();
            match args.request(&cli.global)? {
                Restoring::Into(request) => {
                    restore::run(found.reading(), &request, identities, context)
                        .map(|report| report.output(ui.colour))
                }
                Restoring::InPlace(request) => {
                    restore_in_place::run(found.reading(), &request, identities, context)
                        .map(|report| report.output(ui.verbosity == Verbosity::Quiet))
                }
            }
        }
        Command::Check { read_data, host } => {
            let found = Profile::load_or_reach(lookup)?;
            check::run(found.reading(), *read_data, host.as_deref(), context)
                .map(|report| report.output(ui.colour))
        }
        Command::Doctor { as_cron } => {
            let machine = Machine::here()?;
            let request = doctor::Request {
                as_cron: *as_cron,
                arguments: std::env::args_os().skip(1).collect(),
                zone: std::env::var_os("TZ"),
            };
            doctor::run(lookup, &request, &machine, context.now(), stop)
                .map(|report| report.output(ui))
        }
        Command::Forget(args) => {
            let profile = Profile::load(lookup)?;
            forget::run(&profile, &args.request(&cli.global), context)
                .map(|report| report.output(ui.colour))
        }
        Command::Env { with_credentials } => env::run(lookup, *with_credentials),
        Command::RecoveryKit(args) => {
            let request = args.request(&cli.global)?;
            recovery_kit::run(&Profile::load(lookup)?, &request, context)
        }
        Command::Schedule(args) => {
            let machine = Machine::here()?;
            schedule::run(lookup, args.request(), &machine).map(|report| report.output())
        }
        Command::Notify { .. } => rustic_hapi::supervise::test_notification(lookup),
        Command::Profile(ProfileCommand::Check) => {
            let profile = Profile::load(lookup)?;
            // What the next run would refuse.
            profile.reach.access()?;
            for copy in &profile.copies {
                copy.reach.access()?;
            }
            Ok(report::profile::checked(&profile))
        }
        Command::Profile(ProfileCommand::Show) => Profile::show(lookup).map(report::profile::shown),
        Command::Completions { shell } => Ok(completions::run(*shell)),
        Command::Man { folder } => man::run(folder),
        Command::Demo { keep } => rustic_hapi::demo::run(*keep, stop),
    }
}

fn identities(files: &[PathBuf], stop: &Stop, ui: &Ui) -> Result<Option<Identities>, Error> {
    let read = files
        .iter()
        .map(|file| rustic_hapi::identity::read(file, stop, ui));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    Ok(read.into_iter().reduce(Identities::and))
}
