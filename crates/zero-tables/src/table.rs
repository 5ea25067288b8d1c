//! Which tables there are, and their columns.

/// A table: its name, and the columns of its rows.
///
/// The columns of a table are stable: a later version may only add some at the end.
#[derive(Debug)]
pub struct Table {
    /// The name, also of the view in a mirror.
    pub name: &'static str,
    /// One row per what, for people.
    pub row: &'static str,
    /// The columns in order.
    pub columns: &'static [ColumnDefinition],
    /// The type of the events that it is made from; `None` for all events.
    pub(crate) event_type: Option<&'static str>,
    /// The member of the payload whose items are the rows; `None` if the event is the row.
    pub(crate) items: Option<&'static str>,
}

/// A column of a table.
#[derive(Debug)]
pub struct ColumnDefinition {
    /// The name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Whether a value can be missing: if the payload lacks it, or holds one of another type.
    pub nullable: bool,
    pub(crate) source: Source,
}

/// The type of the values of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 64-bit integers. An integer beyond them is null.
    Integer,
    /// Doubles. An integer is the nearest double.
    Number,
    /// Booleans.
    Boolean,
    /// UTF-8 text.
    Text,
    /// Microseconds since the Unix epoch, in UTC, rounded. A time before the year 1 or after 9999
    /// is null, because Python and others have no such time.
    Time,
}

/// Where the values of a column come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Index,
    Id,
    Type,
    AsOf,
    TraceId,
    Payload,
    PreviousChecksum,
    Checksum,
    /// A field of the payload, or of an item. A dot separates the keys of nested objects.
    Field(&'static str),
}

impl Table {
    /// Returns the table with a name.
    ///
    /// ```
    /// use zero_tables::Table;
    /// assert_eq!(Table::named("fills").map(|table| table.row), Some("fill"));
    /// assert!(Table::named("orders_and_fills").is_none());
    /// ```
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }
}

impl ColumnDefinition {
    const fn new(name: &'static str, kind: Kind, nullable: bool, source: Source) -> Self {
        Self { name, kind, nullable, source }
    }

    /// The same column, from a field that is called differently or lies deeper.
    const fn at(mut self, path: &'static str) -> Self {
        self.source = Source::Field(path);
        self
    }
}

const fn integer(name: &'static str) -> ColumnDefinition {
    ColumnDefinition::new(name, Kind::Integer, true, Source::Field(name))
}

const fn number(name: &'static str) -> ColumnDefinition {
    ColumnDefinition::new(name, Kind::Number, true, Source::Field(name))
}

const fn boolean(name: &'static str) -> ColumnDefinition {
    ColumnDefinition::new(name, Kind::Boolean, true, Source::Field(name))
}

const fn text(name: &'static str) -> ColumnDefinition {
    ColumnDefinition::new(name, Kind::Text, true, Source::Field(name))
}

const fn time(name: &'static str) -> ColumnDefinition {
    ColumnDefinition::new(name, Kind::Time, true, Source::Field(name))
}

const INDEX: ColumnDefinition = ColumnDefinition::new("event_index", Kind::Integer, false, Source::Index);
const TRACE: ColumnDefinition = ColumnDefinition::new("trace_id", Kind::Text, true, Source::TraceId);
const AS_OF: ColumnDefinition = ColumnDefinition::new("as_of", Kind::Time, true, Source::AsOf);

/// All tables.
pub static TABLES: [Table; 11] = [
    Table {
        name: "events",
        row: "event",
        event_type: None,
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            ColumnDefinition::new("as_of_s", Kind::Number, false, Source::AsOf),
            ColumnDefinition::new("event_id", Kind::Text, false, Source::Id),
            ColumnDefinition::new("event_type", Kind::Text, false, Source::Type),
            ColumnDefinition::new("payload", Kind::Text, false, Source::Payload),
            ColumnDefinition::new("previous_checksum", Kind::Text, true, Source::PreviousChecksum),
            ColumnDefinition::new("checksum", Kind::Text, false, Source::Checksum),
        ],
    },
    Table {
        name: "decisions",
        row: "decision",
        event_type: Some("decision.record"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("symbol"),
            text("side"),
            number("quantity"),
            number("price"),
            number("notional_usd"),
            number("confidence"),
            boolean("reduce_only"),
            boolean("allowed"),
            text("reason"),
            text("source"),
            text("idempotency_key"),
            text("order_id"),
            text("strategy_reason"),
            number("limit_price"),
            text("limit_name").at("limit.name"),
            number("limit_bound").at("limit.bound"),
            number("limit_value").at("limit.value"),
        ],
    },
    Table {
        name: "rejections",
        row: "rejected decision",
        event_type: Some("rejection.record"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("symbol"),
            text("side"),
            number("quantity"),
            number("price"),
            number("notional_usd"),
            number("confidence"),
            boolean("reduce_only"),
            text("reason"),
            text("source"),
            text("idempotency_key"),
            text("order_id"),
            text("strategy_reason"),
            number("limit_price"),
            text("limit_name").at("limit.name"),
            number("limit_bound").at("limit.bound"),
            number("limit_value").at("limit.value"),
        ],
    },
    Table {
        name: "fills",
        row: "fill",
        event_type: Some("fill.record"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("symbol"),
            text("side"),
            number("quantity"),
            number("price"),
            number("notional_usd"),
            text("fill_id"),
            text("order_id"),
            number("reference_price"),
            number("fee_usd"),
            number("realized_pnl_usd"),
        ],
    },
    Table {
        name: "positions",
        row: "open position after a cycle",
        event_type: Some("position.snapshot"),
        items: Some("positions"),
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("symbol"),
            number("quantity"),
            number("avg_price"),
            number("notional_usd"),
            number("mark_price"),
            number("unrealized_pnl_usd"),
        ],
    },
    Table {
        name: "cycles",
        row: "cycle",
        event_type: Some("runtime.cycle"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            integer("cycle_id"),
            text("mode"),
            text("scenario").at("observe.scenario"),
            text("risk_posture").at("orient.risk_posture"),
            text("symbol").at("decide.intent.symbol"),
            boolean("accepted").at("act.accepted"),
            text("reason").at("act.reason"),
            integer("decisions").at("learn.decisions"),
            integer("fills").at("learn.fills"),
            integer("rejections").at("learn.rejections"),
            integer("open_positions").at("learn.open_positions"),
            text("market_source").at("observe.market_source"),
            text("strategy").at("decide.strategy.name"),
            text("hold_reason").at("decide.hold_reason"),
            number("cash_usd").at("observe.cash_usd"),
            number("equity_usd").at("observe.equity_usd"),
            number("gross_exposure_usd").at("orient.gross_exposure_usd"),
            number("drawdown_pct").at("orient.drawdown_pct"),
            number("daily_loss_usd").at("orient.daily_loss_usd"),
            boolean("stale_data").at("orient.stale_data"),
            integer("open_orders").at("learn.open_orders"),
            integer("failures").at("learn.failures"),
        ],
    },
    Table {
        name: "equity",
        row: "account after a cycle",
        event_type: Some("position.snapshot"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            number("cash_usd"),
            number("equity_usd"),
            number("realized_pnl_usd"),
            number("unrealized_pnl_usd"),
            number("fees_usd"),
            number("peak_equity_usd"),
            number("drawdown_pct"),
        ],
    },
    Table {
        name: "candles",
        row: "candle of a cycle on market data",
        event_type: Some("market.observation"),
        items: Some("candles"),
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("symbol"),
            time("ts"),
            number("open"),
            number("high"),
            number("low"),
            number("close"),
            number("volume"),
        ],
    },
    Table {
        name: "orders",
        row: "accepted order that waits for its fill",
        event_type: Some("order.open"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("order_id"),
            text("symbol"),
            text("side"),
            number("quantity"),
            number("limit_price"),
            boolean("reduce_only"),
            time("opened_as_of"),
            text("idempotency_key"),
        ],
    },
    Table {
        name: "expiries",
        row: "order whose time ran out",
        event_type: Some("order.expired"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            text("order_id"),
            text("symbol"),
            text("side"),
            number("quantity"),
            number("limit_price"),
            boolean("reduce_only"),
            time("opened_as_of"),
            text("reason"),
            text("idempotency_key"),
        ],
    },
    Table {
        name: "strategy_failures",
        row: "cycle in which the strategy failed",
        event_type: Some("strategy.failed"),
        items: None,
        columns: &[
            INDEX,
            TRACE,
            AS_OF,
            integer("cycle_id"),
            text("strategy").at("strategy.name"),
            text("kind"),
            text("reason"),
            text("on_failure"),
        ],
    },
];
