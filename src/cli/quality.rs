//! `archplan quality`: the quality prior, its coefficients and its error on models it has not seen.

use archplan::quality::report::{self, QualityReport};
use archplan::quality::validation;
use comfy_table::Table;

use crate::cli::{Failure, Global, output};

/// Arguments of `archplan quality`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  archplan quality                        coefficients, errors on unseen models, rank correlations
  archplan quality --json
  archplan quality --refit                fit the shipped table anew, print its coefficients")]
pub struct Args {
    /// Fit the shipped table anew and print the file of coefficients (TOML)
    #[arg(long, conflicts_with = "json")]
    refit: bool,
}

/// Runs `archplan quality`.
pub fn run(args: &Args, global: &Global) -> Result<(), Failure> {
    if args.refit {
        let fitted = validation::refit().map_err(Failure::failed)?;
        println!("{}", toml::to_string(&fitted).map_err(Failure::failed)?.trim_end());
        return Ok(());
    }
    let report = report::report().map_err(Failure::failed)?;
    match global.json {
        true => output::json(&report)?,
        false => print_tables(&report),
    }
    Ok(())
}

fn print_tables(report: &QualityReport) {
    println!(
        "Quality prior: {} published figures pin down {:.1} of {} coefficients; every estimate is `prior`.\n",
        report.rows,
        report.effective_parameters,
        report.coefficients.len()
    );
    println!("Coefficients (from_table: 0 = from the law alone, 1 = from the table alone)");
    println!("{}\n", coefficients(report));
    println!(
        "Errors in points of accuracy on figures left out of the fit (interval: {:.0} % of unseen parents)",
        100.0 * report.coverage
    );
    println!("{}\n", errors(report));
    println!(
        "Rank correlation (Spearman) with the MMLU of published candidates of about one size, not retrained\n(they set no coefficient, but the form of the law was chosen with them in sight)"
    );
    println!("{}", rankings(report));
}

fn coefficients(report: &QualityReport) -> Table {
    let mut table = output::table(&["coefficient", "value", "from_table", "belief", "source of the belief"]);
    for c in &report.coefficients {
        table.add_row([
            c.name.clone(),
            if c.value < 1e-3 { format!("{:.1e}", c.value) } else { format!("{:.4}", c.value) },
            format!("{:.2}", c.from_table),
            format!("{}", c.belief),
            c.belief_source.clone(),
        ]);
    }
    table
}

fn errors(report: &QualityReport) -> Table {
    let mut table = output::table(&[
        "method",
        "left out",
        "over",
        "n",
        "mean |err|",
        "median",
        "bias",
        "spearman",
        "covered %",
    ]);
    for s in &report.scores {
        table.add_row([
            name(&s.method),
            name(&s.left_out),
            s.benchmark.map_or_else(|| name(&s.regime), |b| b.name().to_string()),
            s.n.to_string(),
            format!("{:.1}", s.mean_abs_error_points),
            format!("{:.1}", s.median_abs_error_points),
            format!("{:+.1}", s.bias_points),
            correlation(s.spearman),
            format!("{:.0}", s.coverage_percent),
        ]);
    }
    table
}

fn rankings(report: &QualityReport) -> Table {
    let mut table = output::table(&[
        "list",
        "n",
        "prior",
        "prior, recovered",
        "decoder weights",
        "published size",
        "favourite's place",
    ]);
    for r in &report.rankings {
        table.add_row([
            r.list.clone(),
            r.n.to_string(),
            correlation(r.axes_spearman),
            correlation(r.recovered_spearman),
            correlation(r.decoder_weights_spearman),
            correlation(r.published_size_spearman),
            r.favourite_place.map_or_else(|| "-".to_string(), |place| place.to_string()),
        ]);
    }
    table
}

fn correlation(rho: Option<f64>) -> String {
    rho.map_or_else(|| "-".to_string(), |rho| format!("{rho:+.2}"))
}

/// The name a value has in JSON.
fn name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_string)).unwrap_or_default()
}
