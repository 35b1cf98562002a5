//! The text of an expression and what it is compiled to: at once where somebody waits to hear what is wrong with it, or
//! when it is first asked for, where it was compiled before it was signed. A host reads many conditions and judges few,
//! and compiling one costs it as much as a signature does.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use cel::common::ast::IdedExpr;

use super::{
    Declared, Derived, Error, Reference,
    compile::Compiler,
    parse, stack,
    tree::{Boolean, Typed},
};

/// A text, what it may name, and its tree once there is one.
pub(super) struct Source<T> {
    text: Box<str>,
    declared: Arc<Declared>,
    compiled: OnceLock<Result<Compiled<T>, Error>>,
}

/// Without what it may name, which is the whole policy.
impl<T: fmt::Debug> fmt::Debug for Source<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("text", &self.text).field("compiled", &self.compiled).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Compiled<T> {
    tree: T,
    names: Names,
}

/// A kind of tree that a text can be compiled to.
pub(super) trait Tree: Sized + Send {
    /// Compiles the whole of a text.
    fn compile(compiler: &mut Compiler<'_, '_>, root: &IdedExpr) -> Result<Self, Error>;
}

impl Tree for Boolean {
    fn compile(compiler: &mut Compiler<'_, '_>, root: &IdedExpr) -> Result<Self, Error> {
        compiler.boolean(root)
    }
}

impl Tree for Typed {
    fn compile(compiler: &mut Compiler<'_, '_>, root: &IdedExpr) -> Result<Self, Error> {
        let tree = compiler.expression(root)?;
        if matches!(tree, Self::List(_) | Self::Family(_)) {
            return Err(Error::whole(format!("{} is no value: name one of its elements", tree.describe())));
        }
        Ok(tree)
    }
}

impl<T: Tree> Source<T> {
    /// A text that is compiled now.
    pub(super) fn compiled(text: &str, declared: &Arc<Declared>) -> Result<Arc<Self>, Error> {
        let source = Self::signed(text, declared);
        source.get().map_err(Clone::clone)?;
        Ok(source)
    }

    /// A text that is compiled when it is first asked for.
    pub(super) fn signed(text: &str, declared: &Arc<Declared>) -> Arc<Self> {
        Arc::new(Self { text: text.into(), declared: Arc::clone(declared), compiled: OnceLock::new() })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Its tree, or why there is none.
    pub(super) fn tree(&self) -> Result<&T, &Error> {
        self.get().map(|compiled| &compiled.tree)
    }

    /// What it names; nothing when it cannot be compiled.
    pub(super) fn names(&self) -> &Names {
        static NOTHING: Names = Names::NONE;
        self.get().map_or(&NOTHING, |compiled| &compiled.names)
    }

    fn get(&self) -> Result<&Compiled<T>, &Error> {
        self.compiled.get_or_init(|| compile(&self.text, &self.declared)).as_ref()
    }
}

fn compile<T: Tree>(text: &str, declared: &Declared) -> Result<Compiled<T>, Error> {
    stack::with_room(|| {
        let (root, places) = parse::parse(text)?;
        let mut compiler = Compiler::new(declared, places);
        let tree = T::compile(&mut compiler, &root)?;
        Ok(Compiled { tree, names: compiler.into_names() })
    })
    .unwrap_or_else(|why| Err(Error::whole(why)))
}

/// What an expression names.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) reads: Vec<Reference>,
    pub(super) derived: Vec<Derived>,
    pub(super) probes: Vec<String>,
    pub(super) signals: Vec<String>,
    pub(super) values: Vec<String>,
}

impl Names {
    const NONE: Self =
        Self { reads: Vec::new(), derived: Vec::new(), probes: Vec::new(), signals: Vec::new(), values: Vec::new() };

    pub(super) fn of(reads: Vec<Reference>, uses_elements: bool) -> Self {
        let mut names = Self::default();
        if uses_elements {
            names.probes.push("host".to_owned());
        }
        for reference in &reads {
            match reference {
                Reference::Field { probe, .. } => names.probes.push(probe.clone()),
                Reference::Chosen { value, probes, .. } => {
                    names.values.push(value.clone());
                    names.probes.extend(probes.iter().cloned());
                }
                Reference::Element { .. } | Reference::Each { .. } => names.probes.push("host".to_owned()),
                Reference::Derived(derived) => {
                    names.probes.push(derived.probe.clone());
                    names.derived.push(derived.clone());
                }
                Reference::Signal(name) => names.signals.push(name.clone()),
                Reference::Value(name) => names.values.push(name.clone()),
                Reference::Alert | Reference::Plan(_) | Reference::Outcome(_) | Reference::Acted(_) => {}
            }
        }
        for list in [&mut names.probes, &mut names.signals, &mut names.values] {
            list.sort_unstable();
            list.dedup();
        }
        names.reads = reads;
        names
    }
}
