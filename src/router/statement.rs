//! One statement to its plan.

use std::ops::Range;

use sqlparser::ast::{Expr, Statement as Ast};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::error::{ClientError, SqlState};
use crate::plan::{Access, Effect, Kind, LocalOp, Merge, Pin, Plan, Statement, Target};
use crate::sharding::ShardId;

use super::access::{Footprint, footprint};
use super::hints::{self, Hints, Role};
use super::scan::Scan;
use super::stand_in::analysis_text;
use super::utility::{self, Place, Utility};
use super::words::{Word, words};
use super::{Schema, fallback, keys, merge, place, set_config};

/// What is known of a statement beside its [`Statement`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Detail {
    /// The shard that a hint names.
    pub(super) forced: Option<ShardId>,
    /// Why it goes to the primary.
    pub(super) access_reason: Option<Box<str>>,
    /// Values become keys of rows: what is no key is refused, not just found nowhere.
    pub(super) assigns: bool,
}

/// A plan in the making.
pub(super) struct Draft {
    pub(super) plan: Plan,
    pub(super) proof: Box<str>,
    pub(super) effect: Effect,
    pub(super) kind: Kind,
    /// Surely writes or locks, because of this.
    pub(super) writes: Option<Box<str>>,
    /// Perhaps does.
    pub(super) unsure: Option<Box<str>>,
    pub(super) assigns: bool,
}

/// What planning needs to know.
pub(super) struct Context<'a> {
    pub(super) schema: &'a Schema,
    pub(super) sql: &'a str,
    pub(super) scan: &'a Scan,
    pub(super) param_types: &'a [u32],
    /// A shard hint is given, so nothing about tables needs to be proven.
    pub(super) forced: bool,
}

/// Plans one statement of a text.
pub(super) fn plan(
    schema: &Schema,
    sql: &str,
    scan: &Scan,
    param_types: &[u32],
    number: usize,
) -> (Statement, Detail) {
    let span = scan.statements.get(number).cloned().unwrap_or(0..0);
    let hints = hints::read(sql, &scan.hints, number, schema.shards);
    let context = Context {
        schema,
        sql,
        scan,
        param_types,
        forced: hints.as_ref().is_ok_and(|h| h.shard.is_some()),
    };
    let (hints, draft) = match hints {
        Err(error) => (Hints::default(), Draft::rejected(error, "the hint")),
        Ok(hints) => (hints, context.draft(&span)),
    };
    // A lone statement's plan serves texts that stand elsewhere.
    let span = match scan.statements.len() {
        0 | 1 => 0..usize::MAX,
        _ => span,
    };
    finish(draft, hints, span)
}

/// Applies the hints.
fn finish(draft: Draft, hints: Hints, span: Range<usize>) -> (Statement, Detail) {
    let mut plan = draft.plan;
    let mut proof = draft.proof;
    let reason = draft.writes.clone().or_else(|| draft.unsure.clone());
    let mut access = match reason {
        Some(_) => Access::Write,
        None => Access::Read,
    };
    let mut access_reason = reason;
    match hints.role {
        Some(Role::Primary) => {
            access = Access::Write;
            access_reason = Some("as the hint says".into());
        }
        Some(Role::Replica) => match draft.writes {
            Some(why) if !matches!(plan, Plan::Reject(_)) => {
                plan = Plan::Reject(replica_cannot(&why));
            }
            _ => {
                access = Access::Read;
                access_reason = Some("as the hint says".into());
            }
        },
        None => {}
    }
    if let Some(shard) = hints.shard {
        // Known keys stay: rows must not be written where nobody would look for them.
        let keyed = matches!(
            plan,
            Plan::Single(Target::Keys(_))
                | Plan::Several {
                    target: Target::Keys(_),
                    ..
                }
        ) && draft.assigns;
        if !keyed && !matches!(plan, Plan::Local(_) | Plan::Reject(_)) {
            plan = Plan::Single(Target::Forced(shard));
            proof = format!("a hint names shard {shard}").into();
        }
    }
    let statement = Statement {
        plan,
        access,
        effect: draft.effect,
        kind: draft.kind,
        proof,
        span,
    };
    let detail = Detail {
        forced: hints.shard,
        access_reason,
        assigns: draft.assigns,
    };
    (statement, detail)
}

fn replica_cannot(why: &str) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("the hint asks for a replica, but the statement needs the primary {why}"),
    )
    .hint("Remove role=replica from the hint.")
}

impl Draft {
    pub(super) fn new(plan: Plan, proof: impl Into<Box<str>>, kind: Kind) -> Draft {
        Draft {
            plan,
            proof: proof.into(),
            effect: Effect::None,
            kind,
            writes: None,
            unsure: None,
            assigns: false,
        }
    }

    pub(super) fn rejected(error: ClientError, proof: impl Into<Box<str>>) -> Draft {
        let mut draft = Draft::new(Plan::Reject(error), proof, Kind::Other);
        draft.unsure = Some("since it was not understood".into());
        draft
    }

    fn because(mut self, print: Footprint) -> Draft {
        self.writes = print.writes;
        self.unsure = print.unsure;
        self
    }
}

impl Context<'_> {
    /// Whether there is a choice of shards to prove anything about.
    pub(super) fn several(&self) -> bool {
        self.schema.shards > 1 && !self.forced
    }

    /// Plans the statement at `span`, which may stand within another (EXPLAIN, DECLARE).
    pub(super) fn draft(&self, span: &Range<usize>) -> Draft {
        let words = words(self.sql, self.scan, span);
        let Some(first) = words.first() else {
            return Draft::new(Plan::Local(LocalOp::Empty), "nothing to run", Kind::Other);
        };
        if self.scan.broken {
            return self.left_to_server("its syntax is wrong, as a server will say");
        }
        if first.is("explain") {
            return self.explain(&words, span);
        }
        if first.is("declare") {
            return self.declare(&words, span);
        }
        if first.is("copy") {
            return self.copy(&words, span);
        }
        match utility::classify(self.sql, &words) {
            Some(utility) => self.utility(utility),
            None => self.parsed(&words, span),
        }
    }

    /// Plans the query within EXPLAIN, DECLARE or COPY, which cannot hold another of these.
    pub(super) fn inner(&self, span: &Range<usize>) -> Draft {
        let words = words(self.sql, self.scan, span);
        let nests = |w: &Word| w.is("explain") || w.is("declare") || w.is("copy");
        match words.first() {
            Some(first) if nests(first) => fallback::by_keywords(self, &words),
            _ => self.draft(span),
        }
    }

    /// A server reports the error.
    pub(super) fn left_to_server(&self, proof: &str) -> Draft {
        let mut draft = Draft::new(Plan::Single(Target::AnyOne), proof, Kind::Other);
        draft.unsure = Some("since it was not understood".into());
        draft
    }

    fn utility(&self, utility: Utility) -> Draft {
        let session = matches!(utility.kind, Kind::Session | Kind::Transaction);
        let proof = if session {
            "it concerns the session"
        } else {
            "it names no table's rows"
        };
        let mut draft = match utility.place {
            Place::Never(message, hint) => Draft::rejected(
                ClientError::error(SqlState::FEATURE_NOT_SUPPORTED, message).hint(hint),
                proof,
            ),
            _ if !self.several() => Draft::new(Plan::Single(Target::AnyOne), proof, utility.kind),
            Place::AnyOne => Draft::new(Plan::Single(Target::AnyOne), proof, utility.kind),
            Place::Channels => Draft::new(
                Plan::Single(Target::Home(ShardId(0))),
                "channels live on shard 0",
                utility.kind,
            ),
            Place::AllShards(merge) => Draft::new(
                Plan::Several {
                    target: Target::All,
                    merge: Merge::Other(merge.into()),
                    because: "it concerns the tables of every shard".into(),
                },
                "it concerns the tables of every shard",
                utility.kind,
            ),
            Place::Refused(message, hint) => Draft::rejected(
                ClientError::error(SqlState::FEATURE_NOT_SUPPORTED, message).hint(hint),
                "several shards could be meant",
            ),
        };
        draft.kind = utility.kind;
        draft.effect = utility.effect;
        draft.unsure = None;
        draft.writes = utility.writes.map(Into::into);
        draft
    }

    /// A statement that the parser must understand.
    fn parsed(&self, words: &[Word], span: &Range<usize>) -> Draft {
        if fallback::too_deep(words) {
            return fallback::by_keywords(self, words);
        }
        let text = analysis_text(self.sql, self.scan, span);
        // The parser takes ONLY for a name.
        if words.iter().any(|w| w.is("only")) {
            let normalized = fallback::normalized(&text).and_then(|t| parse(&t));
            if let Some(ast) = normalized {
                return self.analyzed(&ast);
            }
        }
        match parse(&text) {
            Some(ast) => self.analyzed(&ast),
            None => match fallback::normalized(&text).and_then(|text| parse(&text)) {
                Some(ast) => self.analyzed(&ast),
                None => fallback::by_keywords(self, words),
            },
        }
    }

    fn analyzed(&self, ast: &Ast) -> Draft {
        let mut print = footprint(ast);
        let sets = print.pin == Some(Pin::SetConfig) && set_config::only_sets(ast);
        let kind = match ast {
            Ast::Query(_) if sets => Kind::Session,
            Ast::Query(_) => Kind::Select,
            Ast::Insert(_) => Kind::Insert,
            Ast::Update(_) => Kind::Update,
            Ast::Delete(_) => Kind::Delete,
            _ => Kind::Other,
        };
        if kind == Kind::Other && !matches!(ast, Ast::Merge(_)) {
            print.writes = Some("since it is no plain query".into());
        }
        let effect = match (into_table(ast), print.pin) {
            (Some(true), _) => Effect::Pin(Pin::TempTable),
            _ if sets => Effect::SetConfig,
            (_, Some(reason)) => Effect::Pin(reason),
            _ if print.unlocks => Effect::Release,
            _ => Effect::None,
        };
        if !self.several() {
            let proof = "there is one shard to go to";
            let mut draft = Draft::new(Plan::Single(Target::AnyOne), proof, kind).because(print);
            if self.forced && self.schema.shards > 1 && kind != Kind::Select {
                self.keep_known_keys(ast, &mut draft);
            }
            draft.effect = effect;
            return draft;
        }
        let findings = keys::analyze(self.schema, &self.scan.literals, self.param_types, ast);
        let mut draft = match findings {
            Err(error) => Draft::rejected(error, "not proven"),
            Ok(findings) => {
                if findings.catalogs {
                    let why = || "since it reads a catalog".into();
                    print.unsure.get_or_insert_with(why);
                }
                place::place(&findings, &print, &merge::describe(ast, &findings))
            }
        };
        let assigns = draft.assigns;
        draft = draft.because(print);
        draft.assigns = assigns;
        draft.kind = kind;
        draft.effect = effect;
        draft
    }

    /// Under a hint, rows still only go where their keys say, as far as those are known.
    fn keep_known_keys(&self, ast: &Ast, draft: &mut Draft) {
        let findings = keys::analyze(self.schema, &self.scan.literals, self.param_types, ast);
        if let Ok(findings) = findings
            && (findings.splits || findings.moves)
        {
            draft.plan = Plan::Single(Target::Keys(findings.assigned));
            draft.assigns = true;
        }
    }

    /// EXPLAIN takes the plan of what it explains.
    fn explain(&self, words: &[Word], span: &Range<usize>) -> Draft {
        let mut at = 1;
        let mut analyze = false;
        let mut route = false;
        if words.get(1).is_some_and(|w| w.sign("(")) {
            while let Some(word) = words.get(at) {
                at += 1;
                let next = words.get(at);
                let off = next
                    .is_some_and(|w| w.is("off") || w.is("false") || w.is("0") || &*w.text == "0");
                analyze |= (word.is("analyze") || word.is("analyse")) && !off;
                route |= word.is("route") && !off;
                if word.sign(")") {
                    break;
                }
            }
        } else {
            while let Some(word) = words.get(at) {
                match &*word.text {
                    "analyze" | "analyse" => analyze = true,
                    "verbose" => {}
                    _ => break,
                }
                at += 1;
            }
        }
        let start = words.get(at).map_or(span.end, |w| w.span.start);
        if route {
            let text = &self.sql[start..span.end];
            let plan = Plan::Local(LocalOp::ExplainRoute(text.into()));
            return Draft::new(plan, "pgdrover explains", Kind::Other);
        }
        let mut draft = self.inner(&(start..span.end));
        draft.effect = match draft.effect {
            pin @ Effect::Pin(_) if analyze => pin,
            Effect::SetConfig if analyze => Effect::Pin(Pin::SetConfig),
            _ => Effect::None,
        };
        draft.kind = Kind::Other;
        if !analyze && draft.writes.is_none() && !matches!(draft.plan, Plan::Reject(_)) {
            // Nothing is run.
            let catalog = draft.unsure.take_if(|why| !why.contains("catalog"));
            drop(catalog);
        }
        draft
    }

    /// DECLARE takes the plan of its query.
    fn declare(&self, words: &[Word], span: &Range<usize>) -> Draft {
        let cursor = words.iter().position(|w| w.is("cursor")).unwrap_or(0);
        let body = words[cursor..].iter().position(|w| w.is("for"));
        let Some(query) = body.and_then(|n| words.get(cursor + n + 1)) else {
            return fallback::by_keywords(self, words);
        };
        let hold = words[cursor..]
            .windows(2)
            .take(body.unwrap_or(0))
            .any(|w| w[0].is("with") && w[1].is("hold"));
        let mut draft = self.inner(&(query.span.start..span.end));
        draft.kind = Kind::Other;
        if hold {
            draft.effect = Effect::Pin(Pin::CursorWithHold);
        }
        if let Plan::Several { because, .. } = &draft.plan
            && !matches!(
                &draft.plan,
                Plan::Several {
                    target: Target::Keys(_),
                    ..
                }
            )
        {
            let error = ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("a cursor over several shards is not supported: {because}"),
            )
            .hint("Restrict the cursor's query to one sharding key.");
            draft.plan = Plan::Reject(error);
        }
        draft
    }
}

/// SELECT INTO, and whether into a temporary table.
fn into_table(ast: &Ast) -> Option<bool> {
    let Ast::Query(query) = ast else { return None };
    let sqlparser::ast::SetExpr::Select(select) = &*query.body else {
        return None;
    };
    let into = select.into.as_ref()?;
    let temporary = |target: &Expr| match target {
        Expr::CompoundIdentifier(names) => names
            .first()
            .is_some_and(|schema| utility::is_temporary_schema(&keys::fold(schema))),
        _ => false,
    };
    Some(into.temporary || into.targets.iter().any(temporary))
}

/// Parses a text that holds one statement.
pub(super) fn parse(text: &str) -> Option<Ast> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text).ok()?;
    let statement = parser.parse_statement().ok()?;
    while parser.consume_token(&Token::SemiColon) {}
    // Its own way to read a whole text stops at END, which PostgreSQL takes for a column's name.
    (parser.peek_token().token == Token::EOF).then_some(statement)
}
