//! temporary
use hapi_sources::*;
fn main() {
    let db = std::env::args().nth(1).unwrap();
    let base = std::env::temp_dir().join("measure-staging");
    let staging = Staging::create(&base).unwrap();
    let mut s = Source::new("db", Kind::Sqlite, db);
    s.count = vec!["messages".into()];
    let t = std::time::Instant::now();
    struct O(std::time::Instant);
    impl Observer for O { fn step(&self, w: &str) { println!("{w} at {:?}", self.0.elapsed()); } }
    let o = O(t);
    let src = [s];
    let c = Capturer::new(&staging, &src).unwrap().observer(&o).capture(&src[0]).unwrap();
    println!("{:?} {}", t.elapsed(), c.bytes());
    println!("{:?}", c.entries[0].content);
    let st = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", st.lines().filter(|l| l.starts_with("VmHWM") || l.starts_with("VmRSS")).collect::<Vec<_>>().join(" "));
}
