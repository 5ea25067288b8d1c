//! Plots as SVG.

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::contests::growth::Step;

const SIZE: (u32, u32) = (760, 440);
/// The colours of the curves. Bars use the first one.
const COLORS: [RGBColor; 4] =
    [RGBColor(27, 98, 165), RGBColor(200, 80, 30), RGBColor(40, 130, 70), RGBColor(120, 70, 150)];
const GREY: RGBColor = RGBColor(150, 150, 150);

/// A label, a colour, and the figure of a step that the curve shows.
type Curve = (&'static str, RGBColor, fn(&Step) -> f64);

/// Converts a drawing error, which borrows from the drawing.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

/// Plots times in microseconds by the length of the log. Both axes are logarithmic.
pub fn growth(steps: &[Step]) -> Result<String> {
    let curves: [Curve; 4] = [
        ("append, synced", COLORS[0], |step| step.append),
        ("open", COLORS[1], |step| step.open),
        ("one event in the middle", COLORS[2], |step| step.read),
        ("verify, per event", COLORS[3], |step| step.verify_per_event),
    ];
    let microseconds = |step: &Step, figure: fn(&Step) -> f64| figure(step) * 1e6;
    let all = || steps.iter().flat_map(|step| curves.iter().map(move |(.., figure)| figure(step) * 1e6));
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
    let first = steps.first().context("no length was measured")?.events as f64;
    let last = steps.last().context("no length was measured")?.events as f64;

    let decades = first.log10()..last.log10().max(first.log10() + 1.0);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption("Time by length of the log", ("sans-serif", 20))
            .margin(12)
            .margin_right(28)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(decades, (low / 2.0..high * 2.0).log_scale())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .label_style(("sans-serif", 15))
            .x_desc("events in the log")
            .y_desc("microseconds")
            // A mark for each power of ten. A logarithmic axis would have more marks than steps.
            .x_labels(steps.len() + 1)
            .x_label_formatter(&|power| match power.fract() {
                0.0 => format!("10^{power}"),
                _ => String::new(),
            })
            .y_label_formatter(&|time| if *time < 1.0 { format!("{time:.1}") } else { format!("{time:.0}") })
            .draw()
            .map_err(failed)?;
        for (name, color, figure) in curves {
            let points: Vec<(f64, f64)> =
                steps.iter().map(|step| ((step.events as f64).log10(), microseconds(step, figure))).collect();
            chart
                .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))
                .map_err(failed)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart
                .draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))
                .map_err(failed)?;
        }
        chart
            .configure_series_labels()
            .label_font(("sans-serif", 15))
            .position(SeriesLabelPosition::MiddleLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(GREY)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Plots the append ratios as bars on a logarithmic scale, with a line at 1. `None` without ratios.
pub fn append_ratios(ratios: &[(String, f64)]) -> Result<Option<String>> {
    const LABELS: i32 = 380;
    const BAR: i32 = 26;
    const TOP: i32 = 44;
    if ratios.is_empty() {
        return Ok(None);
    }
    let logs = || ratios.iter().map(|(_, ratio)| ratio.log2()).chain([0.0]);
    let (low, high) = (logs().fold(f64::MAX, f64::min), logs().fold(f64::MIN, f64::max));
    let width = f64::from(SIZE.0 as i32 - LABELS - 70);
    let x = |log: f64| LABELS + 10 + ((log - low) / (high - low).max(0.1) * width) as i32;
    let height = TOP + BAR * ratios.len() as i32 + 12;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let text = |text: &str, size: i32, at: (i32, i32)| {
            area.draw(&Text::new(text.to_owned(), at, ("sans-serif", size))).map_err(failed)
        };
        text("Durable appends per second, zero-bus / peer (logarithmic)", 20, (12, 12))?;
        for (row, (label, ratio)) in (0..).zip(ratios) {
            let top = TOP + BAR * row;
            let (begin, end) = (x(0.0).min(x(ratio.log2())), x(0.0).max(x(ratio.log2())));
            text(label, 15, (12, top + 5))?;
            area.draw(&Rectangle::new([(begin, top + 3), (end, top + BAR - 5)], COLORS[0].filled()))
                .map_err(failed)?;
            text(&format!("{ratio:.2}"), 15, (end + 6, top + 5))?;
        }
        let one = x(0.0);
        area.draw(&PathElement::new([(one, TOP - 4), (one, height - 8)], GREY.stroke_width(1)))
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(Some(svg))
}
