//! The charts, as SVG.
//!
//! A chart holds no text of an event, only numbers and times. Its colours are those of the light
//! page; the style sheet replaces them by attribute selectors when the page is dark.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use zero_paper::report::{EquityPoint, Report};

use crate::axis::{Ticks, amounts, indexes, percentages, times};

/// The charts of a report; `None` if there are too few points for charts.
pub(crate) struct Charts {
    /// Equity and start cash.
    pub(crate) equity: String,
    /// Drawdown, below the equity and with the same times.
    pub(crate) drawdown: String,
    /// Gross and net exposure.
    pub(crate) exposure: String,
}

/// A chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a chart: {0}")]
pub struct ChartError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Scale, Scale>>;
type Drawn = Result<(), ChartError>;

/// Width of a chart in its own units. The page shows two units as one pixel.
const WIDTH: u32 = 2000;
const LABEL_SIZE: u32 = 29;
const CHARACTER_WIDTH: u32 = 14;
const LINE_WIDTH: u32 = 4;
const MAX_X_TICKS: usize = 9;
const MAX_Y_TICKS: usize = 6;

// The style sheet names the same colours.
const LABEL: RGBColor = RGBColor(0x5B, 0x64, 0x70);
const GRID: RGBColor = RGBColor(0xE3, 0xE6, 0xEA);
const EDGE: RGBColor = RGBColor(0xB9, 0xC0, 0xC8);
const EQUITY: RGBColor = RGBColor(0x1B, 0x5E, 0x9B);
const START: RGBColor = RGBColor(0x8A, 0x92, 0x9C);
const DRAWDOWN: RGBColor = RGBColor(0xB3, 0x36, 0x2B);
const GROSS: RGBColor = RGBColor(0x6C, 0x7A, 0x89);
const NET: RGBColor = RGBColor(0x1B, 0x7F, 0x5C);

/// One axis: its range and its ticks.
#[derive(Clone)]
struct Scale {
    low: f64,
    high: f64,
    ticks: Ticks,
}

impl Scale {
    fn label_width(&self) -> u32 {
        let characters = self.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        characters as u32 * CHARACTER_WIDTH + 24
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.low) / (self.high - self.low);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        // Light lines are those between two ticks; there are none.
        match hint.weight().allow_light_points() {
            true => Vec::new(),
            false => self.ticks.iter().map(|(position, _)| *position).collect(),
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, position: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == position);
        tick.map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// A range of values with room above and below. A range of one value becomes wider.
fn with_room(low: f64, high: f64) -> (f64, f64) {
    let room = (high - low) * 0.06;
    let room = if room > 0.0 { room } else { (high.abs() * 0.01).max(1.0) };
    (low - room, high + room)
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Where a point is on the horizontal axis: at its time or, if times do not increase, at its index.
fn horizontal(points: &[EquityPoint]) -> (Scale, fn(&EquityPoint) -> f64) {
    let (first, last) = (points[0], points[points.len() - 1]);
    let is_sorted = points.is_sorted_by(|a, b| a.as_of <= b.as_of);
    if is_sorted && last.as_of > first.as_of {
        let (low, high) = (first.as_of, last.as_of);
        return (Scale { low, high, ticks: times(low, high, MAX_X_TICKS) }, |point| point.as_of);
    }
    let (low, high) = (first.event_index as f64, last.event_index as f64);
    (Scale { low, high, ticks: indexes(low, high, MAX_X_TICKS) }, |point| point.event_index as f64)
}

impl Charts {
    /// Draws the charts of a report.
    pub(crate) fn of(report: &Report) -> Result<Option<Self>, ChartError> {
        let points = &report.curve;
        if points.len() < 2 {
            return Ok(None);
        }
        let (x_scale, x) = horizontal(points);
        let equity: Vec<(f64, f64)> = points.iter().map(|point| (x(point), point.equity_usd)).collect();
        let drawdown: Vec<(f64, f64)> = points.iter().map(|point| (x(point), -point.drawdown_pct)).collect();
        let gross: Vec<(f64, f64)> =
            points.iter().map(|point| (x(point), point.gross_exposure_usd)).collect();
        let net: Vec<(f64, f64)> = points.iter().map(|point| (x(point), point.net_exposure_usd)).collect();
        let start = report.start_cash_usd;
        let values = |series: &[(f64, f64)]| series.iter().map(|(_, value)| *value).collect::<Vec<_>>();

        let (low, high) = extent(values(&equity).into_iter().chain([start]));
        let (low, high) = with_room(low, high);
        let equity_scale = Scale { low, high, ticks: amounts(low, high, MAX_Y_TICKS) };
        let (low, _) = extent(values(&drawdown).into_iter().chain([-0.01]));
        let (low, high) = (low * 1.06, 0.0);
        let drawdown_scale = Scale { low, high, ticks: percentages(low, high, 3) };
        let (low, high) = extent(values(&gross).into_iter().chain(values(&net)).chain([0.0]));
        let (low, high) = with_room(low, high);
        let exposure_scale = Scale { low, high, ticks: amounts(low, high, MAX_Y_TICKS) };
        // The same width of labels keeps the times of all charts above each other.
        let scales = [&equity_scale, &drawdown_scale, &exposure_scale];
        let label_width = scales.iter().map(|scale| scale.label_width()).max().unwrap_or(0);

        let ends = [(x_scale.low, start), (x_scale.high, start)];
        Ok(Some(Self {
            equity: draw(560, label_width, &x_scale, &equity_scale, &|plot| {
                plot_dashed(plot, &ends)?;
                plot_line(plot, &equity, EQUITY)
            })?,
            drawdown: draw(260, label_width, &x_scale, &drawdown_scale, &|plot| {
                plot_area(plot, &drawdown, DRAWDOWN)
            })?,
            exposure: draw(420, label_width, &x_scale, &exposure_scale, &|plot| {
                plot_area(plot, &gross, GROSS)?;
                plot_line(plot, &net, NET)
            })?,
        }))
    }
}

fn failed<E: std::fmt::Display>(error: E) -> ChartError {
    ChartError(error.to_string())
}

fn draw(
    height: u32,
    label_width: u32,
    x_scale: &Scale,
    y_scale: &Scale,
    plot_series: &dyn Fn(&mut Plot<'_, '_>) -> Drawn,
) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area: Area<'_> = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let mut plot = ChartBuilder::on(&area)
            .margin_top(16)
            .margin_right(70)
            .x_label_area_size(56)
            .y_label_area_size(label_width)
            .build_cartesian_2d(x_scale.clone(), y_scale.clone())
            .map_err(failed)?;
        let label = ("sans-serif", LABEL_SIZE).into_font().color(&LABEL);
        plot.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.stroke_width(2))
            .axis_style(EDGE.stroke_width(2))
            .label_style(label)
            .draw()
            .map_err(failed)?;
        plot_series(&mut plot)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn plot_line(plot: &mut Plot<'_, '_>, points: &[(f64, f64)], color: RGBColor) -> Drawn {
    let series = LineSeries::new(points.iter().copied(), color.stroke_width(LINE_WIDTH));
    plot.draw_series(series).map(drop).map_err(failed)
}

fn plot_dashed(plot: &mut Plot<'_, '_>, points: &[(f64, f64)]) -> Drawn {
    let series = DashedLineSeries::new(points.iter().copied(), 12, 10, START.stroke_width(3));
    plot.draw_series(series).map(drop).map_err(failed)
}

fn plot_area(plot: &mut Plot<'_, '_>, points: &[(f64, f64)], color: RGBColor) -> Drawn {
    let series = AreaSeries::new(points.iter().copied(), 0.0, color.mix(0.2));
    plot.draw_series(series.border_style(color.stroke_width(3))).map(drop).map_err(failed)
}
