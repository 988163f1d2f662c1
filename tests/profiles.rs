//! Every shipped profile, loaded and checked completely.

use archplan::hardware::profile::check;
use archplan::hardware::profile::registry::Profiles;

#[test]
fn every_shipped_profile_is_sound() {
    let profiles = Profiles::new(&[]).unwrap();
    for name in profiles.names() {
        let profile = profiles.get(name).unwrap_or_else(|e| panic!("{e}"));
        let report = check::check_loaded(&profile);
        assert!(report.errors.is_empty(), "{:#?}", report.errors);
        let tables = profile.tables.values().filter(|info| info.provenance.name() == "measured").count();
        assert_eq!(report.rows.len(), tables);
    }
}
